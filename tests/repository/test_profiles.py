from pathlib import Path

import pytest
import yaml

from lightsans.config import RunConfig
from lightsans.config.file import dump_yaml, from_dict, load_config, parse_config
from lightsans.config.marks import Mark, walk_marks
from lightsans.errors import ConfigError
from pipelines.commands.options import PROFILES, read_config
from pipelines.jobs.client import settings_as_overrides

NAMES = sorted(path.stem for path in PROFILES.glob("*.yaml"))


@pytest.fixture
def profiles(tmp_path):
    (tmp_path / "big.yaml").write_text("train: {num_workers: 5, use_gpu: true}\n")
    (tmp_path / "small.yaml").write_text("train: {num_workers: 1}\n")
    return tmp_path


def parse(profiles, text="", *overrides):
    return parse_config(text, "debug.yaml", overrides, profiles=profiles)


def test_a_profile_wins_over_defaults_and_the_file_over_the_profile(profiles):
    text = "profile: big\ntrain:\n  num_workers: 3\n"
    loaded = parse(profiles, text)
    train = loaded.config.train
    assert (train.num_workers, train.use_gpu, train.epochs) == (3, True, 100)
    assert loaded.origins["train.num_workers"] == "debug.yaml:3"
    assert loaded.origins["train.use_gpu"] == "profile big"
    assert loaded.origins["train.epochs"] == "default"
    assert loaded.origins["profile"] == "debug.yaml:1"


def test_a_profile_on_the_command_line_replaces_that_of_the_file(profiles):
    loaded = parse(profiles, "profile: big\n", "profile=small")
    assert loaded.config.train.num_workers == 1
    assert loaded.config.train.use_gpu is False
    assert loaded.origins["train.num_workers"] == "profile small"


def test_set_wins_over_a_profile(profiles):
    assert parse(profiles, "", "train.num_workers=2", "profile=big").config.train.num_workers == 2


def test_null_chooses_no_profile(profiles):
    assert parse(profiles, "profile: big\n", "profile=null").config == RunConfig()


@pytest.mark.parametrize("name", ["bigg", "../big", "3"])
def test_an_unknown_profile_is_refused_with_those_that_exist(profiles, name):
    with pytest.raises(ConfigError) as caught:
        parse(profiles, f"profile: {name}\n")
    message = str(caught.value)
    assert "(debug.yaml:1); expected one of big, small" in message
    assert str(profiles) in message


def test_a_mistake_inside_a_profile_names_its_file_and_line(profiles):
    (profiles / "wrong.yaml").write_text("train:\n  workers: 3\n")
    with pytest.raises(ConfigError, match=r"train\.workers in .*wrong\.yaml.*line 2"):
        parse(profiles, "profile: wrong\n")


def test_a_profile_cannot_name_another(profiles):
    (profiles / "nested.yaml").write_text("profile: big\n")
    with pytest.raises(ConfigError, match=r"nested\.yaml names a profile itself"):
        parse(profiles, "profile: nested\n")


def test_a_saved_configuration_needs_no_profile_file(profiles):
    """A worker reads back what the driver resolved, whatever its own profiles say."""
    config = parse(profiles, "profile: big\n").config
    assert from_dict(yaml.safe_load(dump_yaml(config))) == config


def test_where_no_profiles_are_known_one_that_is_named_is_refused():
    with pytest.raises(ConfigError, match=r"^profile is 'laptop' \(--set\), and no profiles"):
        load_config(None, ["profile=laptop"])


def test_a_job_runs_with_the_settings_that_the_profile_gave_here(profiles):
    """Its values travel one by one, so a value of the file that equals the default is not lost."""
    loaded = parse(profiles, "profile: big\ntrain: {num_workers: 2}\n")
    overrides = settings_as_overrides(loaded)
    assert {"train.use_gpu=true", "train.num_workers=2"} <= set(overrides)
    assert parse(profiles, "", *overrides).config == loaded.config


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_of_ours_changes_no_result(name):
    loaded = read_config(None, [f"profile={name}"])
    marks = dict(walk_marks(RunConfig))
    chosen = [setting for setting, origin in loaded.origins.items() if origin == f"profile {name}"]
    assert chosen
    harmless = {Mark.NO_EFFECT, Mark.AT_ONCE}
    assert [setting for setting in chosen if not harmless & marks[setting]] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_a_profile_of_ours_has_its_reason_beside_it(name):
    lines = (PROFILES / f"{name}.yaml").read_text().splitlines()
    values = [line for line in lines if line.startswith("  ")]
    assert values
    assert [line for line in values if "#" not in line] == []


def test_the_profiles_that_the_documentation_names_exist():
    assert set(NAMES) >= {"laptop", "gpu-node", "autoscaling"}


def test_the_profiles_lie_in_the_repository():
    assert Path(__file__).parents[2] / "pipelines/profiles" == PROFILES
    assert read_config(None, ["profile=laptop"]).config.profile == "laptop"
