"""Settings of the nightly run."""

import re
from dataclasses import dataclass
from typing import Literal

from lightsans.config.checks import at_least, at_most, fraction, require
from lightsans.config.kinds import BASELINES
from lightsans.config.marks import Mark, made_setting, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class NightlyConfig:
    """Conditions of publishing a nightly run, and the lease that keeps two runs apart."""

    metric: Literal["ndcg@10", "hit@10", "mrr@10"] = setting("ndcg@10", Mark.NO_EFFECT)
    """Metric by which models are compared, on the test items of the night's own dataset."""
    beat_baselines: tuple[str, ...] = setting(("popular", "successor"), Mark.NO_EFFECT)
    """Baselines that the model must be better than, with 95 % confidence: popular,
    popular_recent, successor; [] for none."""
    max_relative_drop: float | None = setting(0.05, Mark.NO_EFFECT)
    """Largest drop below the published model, as a share; null does not compare."""
    gate: Literal["lenient", "strict"] = setting("lenient", Mark.NO_EFFECT)
    """lenient: a night is refused where the whole 95 % interval of the drop lies beyond
    max_relative_drop. strict: where any of it does."""
    floors: dict[str, float] = made_setting(dict, Mark.NO_EFFECT)
    """Least values of test metrics, such as {ndcg@10: 0.03, hit@10: 0.08}."""
    min_users: int = setting(1, Mark.NO_EFFECT)
    """Least number of users in the dataset."""
    max_user_drop: float | None = setting(0.5, Mark.NO_EFFECT)
    """Largest drop of the number of users below the published run, as a share; null does not
    compare."""
    incremental: bool = setting(False, Mark.NO_EFFECT)
    """Make the night's dataset from the published run's: only files that this one does not list are
    read, and items keep their ids. Needs logs that are added to, file by file, never changed."""
    titles: str | None = setting(None, Mark.NO_EFFECT, Mark.PATH)
    """Item table with titles, for the lists of a night's page; null takes score.item_table."""
    title_column: str | None = setting(None, Mark.NO_EFFECT)
    """Column of titles; null takes the first whose name has title or name in it."""
    page_users: int = setting(5, Mark.NO_EFFECT)
    """Users whose lists before and after a night's page shows, by their ids; 0 shows nobody."""
    metrics_file: str | None = setting(None, Mark.NO_EFFECT, Mark.PATH)
    """File for Prometheus' textfile collector, such as /var/lib/node_exporter/lightsans.prom; it is
    replaced at the end of every night. null writes none."""
    notify_url: str | None = setting(None, Mark.NO_EFFECT)
    """Address that is told how every night ended, by a JSON POST. A part that is a secret is given
    as ${NAME}, the name of an environment variable. null tells nobody."""
    notify_token: str | None = setting(None, Mark.NO_EFFECT)
    """Name of the environment variable with the token that is sent along, as a bearer's."""
    clean: bool = setting(False, Mark.NO_EFFECT)
    """Remove after each night what section ``clean`` does not keep, so that the root stays bounded.
    """
    lease_s: float = setting(180.0, Mark.NO_EFFECT)
    """Seconds after which a run that died no longer keeps others out."""

    def __post_init__(self) -> None:
        fraction("nightly", self, "max_relative_drop", "max_user_drop")
        at_least("nightly", self, 1, "min_users", "lease_s")
        at_least("nightly", self, 0, "page_users")
        url, token = self.notify_url, self.notify_token
        require(
            url is None or url.startswith(("http://", "https://")),
            "nightly.notify_url must start with http:// or https://; only parts after that may be "
            "${NAME}",
        )
        require(
            token is None or re.fullmatch(r"[A-Za-z_]\w*", token) is not None,
            "nightly.notify_token is the name of an environment variable that holds the token, "
            "such as LIGHTSANS_NOTIFY_TOKEN; the token itself belongs into no setting",
        )
        require(
            token is None or url is not None,
            f"nightly.notify_token={token} has no effect without nightly.notify_url",
        )
        at_most("nightly", self, 30 * 24 * 3600, "lease_s")
        unknown = set(self.beat_baselines) - set(BASELINES)
        require(
            not unknown,
            f"nightly.beat_baselines={list(self.beat_baselines)}; expected some of "
            f"{', '.join(BASELINES)}, or []",
        )
