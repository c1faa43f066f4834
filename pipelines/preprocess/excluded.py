"""Users to leave out: ``data.exclude_users``, and where those that it lists were found."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lightsans.config import DataConfig, RunConfig
from lightsans.lists.excluded_users import ExcludedIds
from lightsans.lists.id_lists import IdList, describe_found, read_id_list, require_some
from lightsans.storage.manifest_kinds import ExcludedUsers
from lightsans.storage.schemas import id_type
from pipelines.console.progress import say
from pipelines.preprocess.base import Base
from pipelines.preprocess.records import Interactions


@dataclass(frozen=True, slots=True)
class Excluded:
    """Listed users who were found."""

    ids: pa.Array
    """Ids as the log has them."""
    counts: ExcludedUsers
    """Listed ids by where they were found, for the manifest."""


def read_excluded_users(config: RunConfig) -> IdList | None:
    """The list that ``data.exclude_users`` names; None without one.

    Raises:
        InputError: It is missing or unreadable.
    """
    uri = config.data.exclude_users
    return None if uri is None else read_id_list("data.exclude_users", uri, config, "user")


def find_excluded(
    listed: IdList | None, made: Interactions, base: Base | None, data: DataConfig
) -> Excluded | None:
    """Count the listed users who were found, and say it; None without a list.

    Who has no row because the base left them out already counts as found.

    Raises:
        InputError: Nobody was found of a list that is not empty, and ``data.allow_unmatched`` is
            false.
    """
    if listed is None:
        return None
    ids = listed.of_type(id_type(made.user_id_type))
    in_log = ids.take(pa.array(sorted(made.counts.excluded_found), pa.int64()))
    places = {"in_log": in_log}
    if base is not None:
        places["in_base"] = ids.take(pa.array(sorted(made.erased_users), pa.int64()))
        places["left_out_before"] = ExcludedIds.of(base.location).known(listed, made.user_id_type)
    masks = {name: listed.is_among(found) for name, found in places.items()}
    is_found = np.logical_or.reduce(list(masks.values()))
    num_found = listed.count(is_found)
    where = "in the log" if base is None else f"in the new files or dataset {base.location.name}"
    allow = data.allow_unmatched or (base is not None and not _tells_excluded(base))
    warning = require_some(listed, num_found, where, "data.allow_unmatched", allow)
    counts = {name: listed.count(mask) for name, mask in masks.items()}
    if warning:
        say(f"preprocess: WARNING: {warning}")
    else:
        text = describe_found(listed, num_found, "users")
        say(f"preprocess: {text}: {_describe(counts)}")
    by_place = counts if base is not None else {}
    told = ExcludedUsers(listed=len(listed), found=num_found, **by_place)
    return Excluded(pa.concat_arrays(list(places.values())), told)


def _tells_excluded(base: Base) -> bool:
    """Whether a base says whom it left out: one that an earlier version made does not."""
    return not base.manifest.rows.excluded or bool(len(ExcludedIds.of(base.location).hashes))


def _describe(counts: dict[str, int]) -> str:
    """Text such as ``3 in the log, 1 in the base``."""
    words = {
        "in_log": "in the log" if len(counts) == 1 else "in the new files",
        "in_base": "in the base",
        "left_out_before": "left out before",
    }
    found = [f"{count:,} {words[name]}" for name, count in counts.items() if count]
    return ", ".join(found)
