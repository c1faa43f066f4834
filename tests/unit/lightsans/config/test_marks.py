import dataclasses

import pytest

from lightsans.config import DataConfig, EvaluateConfig, RunConfig, ScoreConfig, TuneConfig
from lightsans.config.marks import (
    EFFECTS,
    Mark,
    default_value,
    fields_with,
    made_setting,
    setting,
    values_with,
    walk_marks,
)
from lightsans.config.run import setting_names, setting_type

MARKS = dict(walk_marks(RunConfig))


def marked(mark):
    return {name for name, marks in MARKS.items() if mark in marks}


def test_marks_are_known_of_every_setting():
    assert list(MARKS) == setting_names()


@pytest.mark.parametrize("name", MARKS)
def test_every_setting_says_how_it_affects_results(name):
    effects = EFFECTS & MARKS[name]
    assert len(effects) == 1, f"{name} needs one of {EFFECTS} where it is declared, has {effects}"


def test_a_setting_without_marks_is_found():
    @dataclasses.dataclass
    class Section:
        marked: int = setting(1, Mark.NO_EFFECT)
        forgotten: int = 2

    assert dict(walk_marks(Section)) == {"marked": {Mark.NO_EFFECT}, "forgotten": set()}


def test_settings_within_a_marked_setting_have_its_marks():
    assert MARKS["data.columns.user"] == {Mark.CONTENT, Mark.READS_ROWS}
    assert MARKS["data.temporal.valid_from"] == {Mark.CONTENT}


def test_defaults_that_are_made_anew_are_not_shared():
    @dataclasses.dataclass
    class Section:
        limits: dict[str, int] = made_setting(dict, Mark.NO_EFFECT)

    assert Section().limits is not Section().limits


def test_fields_and_values_are_those_with_all_of_the_marks():
    assert fields_with(TuneConfig, Mark.BUDGET) == ["max_trials", "max_minutes", "target"]
    assert fields_with(EvaluateConfig(), Mark.CONTENT, Mark.VALIDATES) == ["remove_seen"]
    assert values_with(EvaluateConfig(ks=(10, 1)), Mark.CONTENT) == {
        "ks": [10, 1],
        "remove_seen": False,
        "popular_days": 7,
    }


def test_a_setting_that_reads_rows_or_makes_sequences_decides_the_content_of_a_dataset():
    for mark in (Mark.READS_ROWS, Mark.MAKES_SEQUENCES):
        names = fields_with(DataConfig, mark)
        assert names
        assert set(names) <= set(fields_with(DataConfig, Mark.CONTENT))


def test_only_what_decides_a_model_is_searched():
    for name in marked(Mark.SEARCHABLE):
        assert Mark.CONTENT in MARKS[name]
        assert name.startswith(("model.", "train."))


def test_only_what_decides_a_run_decides_its_lists():
    names = set(fields_with(ScoreConfig, Mark.DECIDES_LISTS))
    assert names
    assert not names & set(fields_with(ScoreConfig, Mark.NO_EFFECT))


def test_paths_are_texts_and_texts_that_name_files_are_paths():
    texts = (str, str | None, tuple[str, ...])
    paths = marked(Mark.PATH) | marked(Mark.PATH_OR_NAME)
    paths -= {"score.rules.segments"}  # rules, whose own fields are marked
    assert all(setting_type(name) in texts for name in paths)
    assert {name for name in MARKS if setting_type(name) in texts} - paths == {
        "storage.endpoint_url",
        "storage.profile",
        "score.item_columns",
        "score.user_columns",
        "data.encoding",
        "data.separator",
        "data.escape",
        *(f"data.item_features.{kind}" for kind in ("categorical", "numeric", "vector")),
        "data.missing_values",
        "data.partition_time",
        "data.quote_char",
        "data.timezone",
        "data.where",
        "data.as_of",
        "data.keep_since",
        "data.temporal.valid_from",
        "data.temporal.test_from",
        "data.base",
        "score.eligible_column",
        "evaluate.user_column",
        "nightly.beat_baselines",
        "nightly.notify_token",
        "nightly.notify_url",
        "nightly.title_column",
        "profile",
    }


def test_a_setting_that_joined_later_enters_an_id_once_it_leaves_its_default():
    @dataclasses.dataclass
    class Section:
        first: int = setting(1, Mark.CONTENT)
        joined: tuple[int, ...] = made_setting(lambda: (2, 3), Mark.CONTENT, Mark.LATER)

    assert values_with(Section(), Mark.CONTENT) == {"first": 1}
    assert values_with(Section(joined=(4,)), Mark.CONTENT) == {"first": 1, "joined": [4]}
    assert default_value(Section, "joined") == [2, 3]
