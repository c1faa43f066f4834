"""Models that have learnt from erased users."""

from collections.abc import Iterable, Mapping

from lightsans.config.yaml_text import read_yaml
from lightsans.errors import LightSANsError
from lightsans.lists.erased_users import read_erasures
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import ModelManifest
from lightsans.storage.manifests import finished_directories, is_finished
from lightsans.storage.model_files import CONFIG
from pipelines.console.progress import say_passed_over


def models_that_learnt(
    root: Location, replaced: set[str], before: Mapping[str, str]
) -> dict[str, str]:
    """Models that have learnt from erased users, or may have, with the reason.

    Args:
        root: Where all results lie.
        replaced: Ids of the results that were replaced in any erasure.
        before: Models that earlier erasures found, with the reason.
    """
    # What is no readable model recommends nothing; the search of the root looks at its bytes.
    models = finished_directories(ModelManifest, root / "models", say_passed_over)
    manifests = dict(models)
    found = {name: why for name, why in before.items() if name in manifests}
    for name, manifest in manifests.items():
        dataset = manifest.dataset_id
        if name in found or not dataset:
            continue
        if dataset in replaced:
            found[name] = f"dataset {dataset} had erased users"
        elif not is_finished(root / "datasets" / dataset):
            found[name] = f"dataset {dataset} was removed before: it may have had erased users"
    return _with_followers(root, manifests.keys(), found)


def marked_models(root: Location) -> dict[str, str]:
    """Models that count as having learnt from erased users now, with the reason.

    Those who began with the weights of one of them since the last erasure are among them.
    """
    marked = read_erasures(root).models
    return _with_followers(root, (root / "models").children(), marked) if marked else {}


def _with_followers(
    root: Location, names: Iterable[str], marked: Mapping[str, str]
) -> dict[str, str]:
    """The marked models, and those who began with the weights of one of them."""
    found = dict(marked)
    began = {name: _began_with(root / "models" / name) for name in names if name not in found}
    while more := {n: start for n, start in began.items() if n not in found and start in found}:
        found |= {n: f"it began with the weights of model {start}" for n, start in more.items()}
    return found


def _began_with(model: Location) -> str:
    """The model whose weights a model began with; empty where it began with none of this root."""
    try:
        sections = read_yaml((model / CONFIG).read_bytes().decode(), str(model / CONFIG))
    except (FileNotFoundError, LightSANsError, UnicodeDecodeError):
        return ""
    train = sections.get("train") if isinstance(sections, dict) else None
    start = train.get("warm_start") if isinstance(train, dict) else None
    return str(start).rstrip("/").rsplit("/", 1)[-1] if start else ""
