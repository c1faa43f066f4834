"""Stages that a night records: what they took, and whether they made anything."""

import pytest

from pipelines.session.stage_times import StageTime, note_stage, recorded_stages, timed_stage
from tests.factories import local
from tests.manifests import model_manifest


def test_a_stage_is_recorded_with_time_memory_and_whether_it_failed():
    with recorded_stages() as stages:
        with timed_stage("train", "model", "m"):
            pass
        with pytest.raises(ValueError, match="loss"), timed_stage("score", "run", "r"):
            raise ValueError("loss")
    train, score = stages
    assert (train.stage, train.kind, train.id, train.has_failed) == ("train", "model", "m", False)
    assert train.seconds >= 0
    assert train.peak_bytes > 1 << 20
    assert score.has_failed


def test_nothing_is_recorded_after_the_block_or_without_one():
    with recorded_stages() as stages:
        note_stage(StageTime("train", "model", "m", is_found=True))
    note_stage(StageTime("score", "run", "r"))
    with timed_stage("score", "run", "r"):
        pass
    assert [stage.stage for stage in stages] == ["train"]


def test_what_a_stage_finds_or_makes_is_recorded_by_find_or_make(tmp_path):
    from lightsans.storage.manifest_kinds import ModelManifest
    from pipelines.session.stage import find_or_make

    root = local(tmp_path)
    with recorded_stages() as stages:
        for _ in range(2):
            find_or_make(
                ModelManifest,
                root / "models" / "m",
                root,
                stage="train",
                kind="model",
                make=lambda owner, anew: model_manifest(),
            )
    assert [(stage.id, stage.is_found) for stage in stages] == [("m", False), ("m", True)]
