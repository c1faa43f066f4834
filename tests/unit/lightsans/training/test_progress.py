import numpy as np
import pytest

from lightsans.errors import InputError
from lightsans.training.progress import EpochRow, Partial, Progress, ProgressThrottle, StepProgress

ROW = EpochRow(
    epoch=1, loss=2.5, targets=9, distinct_targets=8, train_s=1.0, valid_s=0.5, valid={"a": 1.0}
)


def test_progress_survives_as_text():
    progress = Progress([ROW], best_epoch=1, stopped=True)
    assert Progress.from_json(progress.to_json()) == progress


def test_progress_within_an_epoch_survives_as_text_and_has_a_name_of_its_own():
    partial = Partial(step=12, loss_sums=[1.5], seconds={"train_s": 2.0}, norm_sum=0.5)
    progress = Progress([ROW], best_epoch=1, partial=partial)
    assert Progress.from_json(progress.to_json()) == progress
    assert progress.name == "epoch-00001-step-00000012"
    assert Progress([ROW]).name < progress.name < Progress([ROW, ROW]).name


def test_keys_that_a_store_adds_to_a_checkpoint_are_not_read():
    text = Progress([ROW]).to_json().replace("{", '{"owner": "x", ', 1)
    assert Progress.from_json(text) == Progress([ROW])


def test_damaged_progress_is_refused_by_file_and_field():
    whole = Progress([ROW]).to_json()
    for damaged, found in (
        (whole.replace("best_epoch", "best"), "best_epoch is missing"),
        (whole.replace("2.5", '"low"'), r"history\[0\]\.loss is 'low'; expected a number"),
        (whole[:-2], "not JSON"),
    ):
        with pytest.raises(InputError, match=f"epoch-1/progress.json: {found}"):
            Progress.from_json(damaged, "epoch-1/progress.json")


def test_messages_come_when_enough_time_has_passed(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    reports: list[StepProgress] = []
    throttle = ProgressThrottle(reports.append, 2, np.array([10, 10, 20, 40]), begin=1)
    assert not throttle.is_due()
    now[0] += 1.0
    assert throttle.is_due()
    throttle.report(2, 0.5)
    assert not throttle.is_due()
    # Since it began after the first step: 30 targets in a second, of which 40 are left.
    assert reports == [
        StepProgress(epoch=3, step=3, num_steps=4, loss=0.5, targets_per_s=30.0, left_s=40 / 30)
    ]
