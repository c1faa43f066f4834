"""Job of the processes that score a run; the driver, which hands it out, does without PyTorch."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lightsans.config import RunConfig
from lightsans.errors import InputError
from lightsans.storage.listing import list_files
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, ModelManifest, RunPart, RunQuestion
from lightsans.storage.manifests import read_manifest
from lightsans.storage.records import from_json
from pipelines.score.since import Earlier
from pipelines.session.lease import Owner

COMMITS = "_commits"
"""Directory of a run with one file per finished part. Its name keeps it from readers of tables."""
_READERS = 16
"""Small files read at once."""


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """Everything that a process must know to score parts."""

    config: RunConfig
    dataset: Location
    dataset_manifest: DatasetManifest
    model: Location
    run: Location
    question: RunQuestion
    earlier: Earlier | None
    weights: str
    """SHA-256 of the model's weights."""
    owner: Owner
    """Token of the process that makes the run; parts of any other are not kept."""
    temperature: float | None = None
    """Temperature of the probabilities; None where there are none."""


def finished_parts(job: ScoreJob) -> dict[str, RunPart]:
    """Parts that earlier attempts committed, by name.

    Parts whose files are gone do not count, nor do those made of other weights.
    """
    run = job.run
    names = (run / COMMITS).children()
    if not names:
        return {}
    sizes = _file_sizes(run)
    with ThreadPoolExecutor(_READERS) as pool:
        parts = list(pool.map(lambda name: _read_commit(run / COMMITS / name), names))
    return {
        part.name: part
        for part in parts
        if _is_of_weights(job, part)
        and all(sizes.get((run / file.path).uri) == file.bytes for file in part.files)
    }


def _read_commit(file: Location) -> RunPart:
    return from_json(RunPart, file.read_json(), str(file))


def _is_of_weights(job: ScoreJob, part: RunPart) -> bool:
    """Whether a part was scored with the weights that the model has now."""
    if part.weights_sha256 is not None:
        return part.weights_sha256 == job.weights
    # An earlier version scored it: did one train the model too?
    model = read_manifest(ModelManifest, job.model)
    return model is not None and model.weights_sha256 is None


def _file_sizes(run: Location) -> dict[str, int]:
    """Sizes of the files of a run by address; none where a removal left nothing but commits."""
    try:
        return {file.location.uri: file.size for file in list_files(run.uri, run.storage)}
    except InputError:  # commits, whose directory is hidden, are no files to it
        return {}
