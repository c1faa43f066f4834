"""Probabilities of a run: their temperature, found in its directory or fitted by a task.

    recommendations/<run>/calibration.json, calibration.png

The file is written before the first part, so that a run that goes on keeps its temperature.
"""

from dataclasses import replace
from functools import partial

import ray

from lightsans.recommendations.item_choice import ItemChoice
from lightsans.reports.calibration_plots import draw_calibration
from lightsans.stages.calibration import Calibration, calibrate, held_out_pair
from lightsans.storage.model_files import weights_hash
from lightsans.storage.records import from_json, to_json
from pipelines.console.progress import say
from pipelines.score.job import ScoreJob
from pipelines.session.pictures import save_pictures
from pipelines.session.tasks import remote

RECORD, PICTURE = "calibration.json", "calibration.png"


def with_temperature(job: ScoreJob, choice: ItemChoice) -> ScoreJob:
    """The job with a temperature, for ``score.probability``."""
    found = _find(job)
    if found is None:
        found = ray.get(remote(partial(_calibrate, job)).remote(choice))
        job.owner.require()
        (job.run / RECORD).write_json(to_json(found))
        picture = found
        save_pictures("score", job.run, lambda: {PICTURE: draw_calibration(picture)})
        say(f"score: {describe(found)}")
    return replace(job, temperature=found.temperature)


def describe(found: Calibration) -> str:
    """The temperature and what it is worth, in a sentence."""
    if found.temperature is None:
        return f"WARNING: no probabilities: {found.reason}"
    assert found.valid is not None
    said = f"probabilities at temperature {found.temperature:.3f}, by {found.valid.users:,} users"
    if found.first is None or found.listed is None:
        return f"{said} of valid; nobody has a test target that may be recommended"
    return (
        f"{said} of valid; on test the first places expect {found.first.expected_hits:.1f} hits "
        f"and have {found.first.hits:,}, calibration error {found.first.calibration_error:.4f}"
    )


def _find(job: ScoreJob) -> Calibration | None:
    """Read the fit of an earlier attempt at the run; None where the model was trained again."""
    file = job.run / RECORD
    if not file.exists():
        return None
    found = from_json(Calibration, file.read_json(), str(file))
    model, _ = held_out_pair(job.model)
    is_same = model.name == found.model_id and weights_hash(model) == found.weights_sha256
    return found if is_same else None


def _calibrate(job: ScoreJob, choice: ItemChoice) -> Calibration:
    return calibrate(job.config, job.model, choice)
