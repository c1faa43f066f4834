"""Roots made by hand, of which `clean` removes what is old and nothing that is used: no Ray."""

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from lightsans.config import CleanConfig, RunConfig
from lightsans.errors import ConfigError, LeaseError
from lightsans.reports.evaluation_figures import EvaluationFigures
from lightsans.storage.manifest_kinds import ImportedFrom
from lightsans.storage.manifests import manifest_json
from pipelines.commands.app import app
from pipelines.evaluate.stage import EvaluationManifest
from pipelines.operations import clean as cleaning
from pipelines.operations.attempts import begin_attempt, ended, read_attempts, write_attempt
from pipelines.operations.clean import clean, plan_clean
from pipelines.publish import publish_run, read_published, roll_back
from pipelines.refit.checks import AgreementManifest, RefitFigures
from pipelines.session.lease import hold
from tests.factories import local
from tests.manifests import dataset_manifest, model_manifest, run_manifest

BEGIN = datetime(2026, 1, 1, 3, tzinfo=UTC)
POLICY = CleanConfig(keep=2, keep_reports=3, min_age_hours=0, unfinished_days=0)


@pytest.fixture
def root(tmp_path):
    return local(tmp_path / "root")


def config_of(root, **policy):
    return replace(RunConfig(root=root.uri), clean=replace(POLICY, **policy))


def write(root, path, manifest=None, created_at=None):
    directory = root / path
    (directory / "part-00000.parquet").write_bytes(b"rows" * 25)
    if manifest is not None:
        made = replace(manifest, created_at=created_at.isoformat())
        (directory / "manifest.json").write_json(manifest_json(made))


def evaluation(dataset, model):
    return EvaluationManifest(
        dataset=dataset, model=model, protocol={}, map=False, figures=EvaluationFigures(metrics={})
    )


def agreement(dataset, model):
    return AgreementManifest(
        dataset_id=dataset,
        model_id=model,
        judged_id=model,
        format_version=1,
        weights_sha256="ab",
        figures=RefitFigures(infinite_weights=0),
    )


def make_night(root, number, *, publish=True, base=None, timezone="UTC"):
    """All that a night leaves, named after its number; published long ago."""
    made, date = BEGIN + timedelta(days=number), f"{BEGIN + timedelta(days=number):%Y-%m-%d}"
    d, m, r = f"d{number}", f"m{number}", f"r{number}"
    data = {**dataset_manifest().data, "as_of": date, "timezone": timezone}
    write(root, f"datasets/{d}", dataset_manifest(d, data=data, base=base), made)
    write(root, f"models/{m}", model_manifest(m, dataset_id=d), made)
    write(root, f"models/{m}/checkpoints/epoch-00001")
    write(root, f"reports/evaluate-{number}", evaluation(d, m), made)
    write(root, f"reports/refit-{number}", agreement(d, m), made)
    (root / "reports" / f"nightly-{date}.json").write_json({"passed": publish})
    write_attempt(root, ended(begin_attempt(date, made), "published", "", 0))
    if publish:
        write(root, f"recommendations/{r}", run_manifest(r, dataset_id=d, model_id=m), made)
        publish_run(read_published(root), r, "nightly")
        history = root / "recommendations" / "history.json"
        content = history.read_json()
        for entry in content["publications"]:
            entry["published_at"] = BEGIN.isoformat()
        history.write_json(content)


def left(root):
    rooms = ("datasets", "models", "recommendations", "tune", "similar", "audience")
    found = {f"{room}/{name}" for room in rooms for name in (root / room).children()}
    return {path for path in found if not path.endswith((".json", "LATEST"))}


def test_what_is_published_and_what_rollbacks_bring_back_stays_with_all_it_was_made_from(root):
    for number in range(6):
        make_night(root, number)
    clean(config_of(root, keep=1))
    numbers = (3, 4, 5)
    assert left(root) == {
        f"{room}{n}" for n in numbers for room in ("datasets/d", "models/m", "recommendations/r")
    }
    assert [roll_back(read_published(root)).run_id for _ in range(2)] == ["r4", "r3"]


def test_the_newest_of_each_kind_stay_though_nothing_was_published(root):
    for number in range(5):
        make_night(root, number, publish=False)
    clean(config_of(root))
    assert left(root) == {"datasets/d3", "datasets/d4", "models/m3", "models/m4"}
    names = (root / "reports").children()
    assert {name for name in names if name.startswith("evaluate")} == {"evaluate-3", "evaluate-4"}
    assert {name for name in names if name.startswith("refit")} == {"refit-3", "refit-4"}


def test_a_model_of_long_ago_that_the_published_run_is_of_stays_with_its_dataset(root):
    for number in range(4):
        make_night(root, number, publish=False)
    made = BEGIN + timedelta(days=9)
    write(root, "datasets/d9", dataset_manifest("d9"), made)
    write(root, "recommendations/r9", run_manifest("r9", dataset_id="d9", model_id="m0"), made)
    publish_run(read_published(root), "r9")
    clean(config_of(root, keep=1))
    assert left(root) == {
        "recommendations/r9", "datasets/d9", "models/m0", "datasets/d0", "datasets/d3", "models/m3"
    }  # fmt: skip


def test_checkpoints_of_finished_models_go_and_the_models_stay(root):
    make_night(root, 1)
    found = clean(config_of(root))
    assert [d.path for d in found.removed] == ["models/m1/checkpoints"]
    assert (root / "models/m1").children() == ["manifest.json", "part-00000.parquet"]
    assert clean(config_of(root)).removed == ()


def test_the_base_of_the_published_dataset_stays_but_not_the_base_of_that(root):
    for number in range(6):
        make_night(root, number, base=f"d{number - 1}" if number else None)
    clean(config_of(root, keep=1))
    assert {p for p in left(root) if p.startswith("datasets")} == {
        f"datasets/d{n}" for n in (2, 3, 4, 5)
    }


def test_imported_models_and_results_that_the_configuration_names_stay(root):
    for number in range(5):
        make_night(root, number, publish=False)
    imported = ImportedFrom(program="recbole", file="x.pth")
    write(root, "models/i", model_manifest("i", dataset_id="", imported_from=imported), BEGIN)
    config = config_of(root, keep=1)
    data, train = replace(config.data, base="d1"), replace(config.train, warm_start="m2")
    clean(replace(config, data=data, train=train))
    assert left(root) == {
        *("models/i", "models/m2", "models/m4"),
        *("datasets/d1", "datasets/d2", "datasets/d4"),
    }


def test_young_results_stay_whatever_their_number(root):
    for number in range(4):
        make_night(root, number, publish=False)
    write(root, "datasets/young", dataset_manifest("young"), datetime.now(UTC))
    clean(config_of(root, keep=1, min_age_hours=24))
    assert "datasets/young" in left(root)
    assert "datasets/d1" not in left(root)


# ---- who is at work


@pytest.mark.parametrize("lease", ["dataset-d0", "model-m0", "run-r0", "search-s"])
def test_what_a_living_process_makes_stays(root, lease):
    kind, name = lease.split("-")
    room = {"dataset": "datasets", "model": "models", "run": "recommendations", "search": "tune"}
    write(root, f"{room[kind]}/{name}")  # unfinished
    with hold(root / "locks" / f"{lease}.json", "at work", 60):
        assert clean(config_of(root)).removed == ()
    assert left(root) == {f"{room[kind]}/{name}"}
    [removed] = clean(config_of(root)).removed
    assert removed.why.startswith("unfinished, unchanged since ")
    assert left(root) == set()


@pytest.mark.parametrize("uses", [["datasets/d0", "models/m0"], None])
def test_what_a_living_process_uses_stays_and_so_does_all_where_it_does_not_say(root, uses):
    for number in range(5):
        make_night(root, number, publish=False)
    lock = root / "locks" / "run-r.json"
    with hold(lock, "score of run r", 60, uses=uses or ()):
        if uses is None:
            content = lock.read_json()
            del content["uses"]
            lock.write_json(content)
        planned = {decision.path for decision in plan_clean(config_of(root, keep=1)).remove}
        clean(config_of(root, keep=1))
        kept = left(root)
    assert not planned & kept
    everything = {f"{room}{n}" for n in range(5) for room in ("datasets/d", "models/m")}
    of_one = {"datasets/d0", "models/m0", "datasets/d4", "models/m4"}
    assert kept == (everything if uses is None else of_one)


def test_what_was_made_since_a_night_began_stays_for_its_next_stages(root):
    for number in range(4):
        make_night(root, number, publish=False)
    lock, now = root / "locks" / "nightly.json", datetime.now(UTC)
    for minutes, name in ((90, "before"), (30, "a"), (20, "b"), (10, "c")):
        made = now - timedelta(minutes=minutes)
        write(root, f"datasets/{name}", dataset_manifest(name), made)
    with hold(lock, "nightly", 60):
        since = (now - timedelta(hours=1)).isoformat(timespec="seconds")
        lock.write_json({**lock.read_json(), "since": since})
        clean(config_of(root, keep=1))
    assert {"datasets/a", "datasets/b", "datasets/c"} <= left(root)
    assert "datasets/before" not in left(root)


def test_a_result_that_somebody_begins_to_use_after_the_plan_was_made_stays(root, monkeypatch):
    for number in range(3):
        make_night(root, number, publish=False)
    holding = nullcontext()

    def plan_and_begin(config):
        nonlocal holding
        plan = plan_clean(config)
        lock = root / "locks" / "model-new.json"
        holding = hold(lock, "train of model new", 60, uses=["datasets/d0"])  # type: ignore[assignment]
        holding.__enter__()
        return plan

    monkeypatch.setattr(cleaning, "plan_clean", plan_and_begin)
    found = clean(config_of(root, keep=1))
    holding.__exit__(None, None, None)
    assert [decision.path for decision in found.in_use] == ["datasets/d0"]
    assert "datasets/d0" in left(root)


def test_two_do_not_clean_at_once(root):
    make_night(root, 0)
    lock = root / "locks" / "clean.json"
    with hold(lock, "clean", 60), pytest.raises(LeaseError, match="held by clean"):
        clean(config_of(root))


# ---- the work of dead runs, reports, leases


def test_unfinished_work_stays_for_some_days_and_then_goes(root):
    for path in (
        "datasets/x",
        "models/x",
        "tune/x",
        "similar/x",
        "audience/x",
        "reports/evaluate-x",
    ):
        write(root, path)
    assert clean(config_of(root, unfinished_days=2)).removed == ()
    assert len(clean(config_of(root)).removed) == 6
    assert left(root) == set()


def test_a_damaged_manifest_is_looked_at_by_a_person(root):
    write(root, "datasets/x")
    (root / "datasets/x/manifest.json").write_bytes(b"{")
    assert clean(config_of(root)).removed == ()
    assert plan_clean(config_of(root)).keep[0].why == "its manifest cannot be read: look at it"


def test_reports_of_the_newest_nights_stay_with_their_attempts_and_of_published_ones(root):
    for number in range(8):
        make_night(root, number, publish=number == 0)
    clean(config_of(root))
    dates = {f"2026-01-0{day}" for day in (1, 6, 7, 8)}
    assert set((root / "reports/nights").children()) == dates
    names = {name for name in (root / "reports").children() if name.startswith("nightly")}
    assert names == {f"nightly-{date}.json" for date in dates}


def test_reports_of_published_nights_stay_also_where_midnight_is_not_that_of_utc(root):
    for number in range(8):
        make_night(root, number, publish=number in (0, 2, 4), timezone="Europe/Berlin")
    config = config_of(root)
    clean(replace(config, data=replace(config.data, timezone="Europe/Berlin")))
    dates = [f"2026-01-0{day}" for day in (1, 3, 5, 6, 7, 8)]
    assert (root / "reports/nights").children() == dates


def test_reports_of_published_nights_stay_also_where_their_dates_had_an_offset(root):
    """A night of 2026-01-01T00:00+05:00 is that of the day before in UTC, and named as given."""
    for number in range(6):
        make_night(root, number, publish=number == 0)
    history = root / "recommendations" / "history.json"
    content = history.read_json()
    content["publications"][0]["as_of"] = "2025-12-31T19:00:00+00:00"
    history.write_json(content)
    [attempt] = read_attempts(root, "2026-01-01")
    write_attempt(root, replace(attempt, run_id="r0"))
    clean(config_of(root))
    dates = (root / "reports/nights").children()
    assert dates == [f"2026-01-0{day}" for day in (1, 4, 5, 6)]


def test_leases_of_results_that_are_gone_go_with_what_stands_beside_them(root):
    with hold(root / "locks" / "run-gone.json", "score", 60):
        pass
    with hold(root / "locks" / "nightly.json", "nightly", 60):
        pass
    clean(config_of(root))
    assert (root / "locks").children() == ["nightly.json"] or (root / "locks").children() == [
        "clean.json",
        "nightly.json",
    ]
    assert not (root / "locks" / ".run-gone.json.lock").exists()


def test_files_written_aside_by_the_dead_go_after_an_hour(root, monkeypatch):
    aside = root / "datasets/d/.items.parquet.0a1b2c3d.tmp"
    write(root, "datasets/d", dataset_manifest("d"), BEGIN)
    with open(aside.path, "wb") as file:
        file.write(b"half")
    assert clean(config_of(root)).removed == ()
    monkeypatch.setattr("pipelines.operations.retention.ASIDE_AFTER", timedelta(seconds=-1))
    [removed] = clean(config_of(root)).removed
    assert removed.kind == "unfinished file"
    assert not aside.exists()


def test_files_of_others_that_only_look_unfinished_stay(root, monkeypatch):
    """A root may have logs beside the results, and whoever collects them writes as he likes."""
    monkeypatch.setattr("pipelines.operations.retention.ASIDE_AFTER", timedelta(seconds=-1))
    files = [root / name for name in ("logs/day1.csv.tmp", "serving/m/vectors.tmp", ".a.csv.tmp")]
    for file in files:
        file.write_bytes(b"rows")
    assert clean(config_of(root)).removed == ()
    assert all(file.exists() for file in files)


def test_names_are_literal(root):
    write(root, "datasets/d[1]")
    for number in range(2):
        make_night(root, number)
    write(root, "datasets/d1x", dataset_manifest("d1x"), BEGIN + timedelta(days=50))
    clean(config_of(root, keep=3))
    assert "datasets/d[1]" not in left(root)
    assert {"datasets/d1", "datasets/d1x"} <= left(root)


# ---- thirty nights, and the command


def test_the_root_of_thirty_nights_is_bounded(root):
    sizes = []
    for number in range(30):
        make_night(root, number, publish=number % 3 > 0)
        clean(config_of(root, keep=3, keep_reports=5))
        sizes.append(len(root.filesystem.find(root.path)))
    assert max(sizes[10:]) <= max(sizes[5:10])
    assert read_published(root).run_id == "r29"


def test_the_command_says_what_would_go_and_why_and_removes_it_only_without_dry_run(root):
    for number in range(5):
        make_night(root, number, publish=False)
    settings = [f"root={root}", "clean.keep=1", "clean.min_age_hours=0"]
    words = ["clean", *(word for each in settings for word in ("-s", each))]
    before = left(root)
    planned = CliRunner().invoke(app, [*words, "--dry-run"])
    assert planned.exit_code == 0, planned.output
    assert "would be removed" in planned.stdout
    assert "older than the newest 1" in planned.stdout
    told = json.loads(CliRunner().invoke(app, [*words, "--dry-run", "--json"]).stdout)
    assert left(root) == before
    done = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert done["removed"] == told["removed"]
    assert {entry["path"] for entry in done["kept"]} >= left(root) == {"datasets/d4", "models/m4"}


def test_a_store_where_nobody_knows_who_is_at_work_is_not_cleaned():
    config = RunConfig(root="memory://bucket/root")
    with pytest.raises(ConfigError):
        clean(config)
