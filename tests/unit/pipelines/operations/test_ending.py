"""Whatever ends a night is recorded, and told; and neither changes how it ends."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from lightsans.config.file import load_config
from lightsans.errors import ConfigError, GateError, LeaseError, StorageError
from pipelines.operations import ending
from pipelines.operations.attempts import Attempt, attempts_of, read_attempts
from pipelines.operations.ending import LONGEST_REASON, record_night, tellers_of
from pipelines.operations.status import read_status
from tests.factories import local

DATE, MOMENT = "2026-11-05", datetime(2026, 11, 5, tzinfo=UTC)


@pytest.fixture
def root(tmp_path):
    return local(tmp_path)


def result(outcome="published"):
    return SimpleNamespace(
        outcome=outcome, reason="", run_id="r", instead_of="q", dataset_id="d", model_id="m"
    )


def run(root, night, *tellers):
    return record_night(root, DATE, MOMENT, list(tellers), night)


def raising(error):
    def night():
        raise error

    return night


def test_a_night_that_publishes_leaves_its_ids(root):
    told: list[Attempt] = []
    assert run(root, result, told.append).run_id == "r"
    [attempt] = read_attempts(root, DATE)
    assert told == [attempt]
    assert (attempt.outcome, attempt.exit_status, attempt.reason) == ("published", 0, "")
    ids = (attempt.run_id, attempt.instead_of, attempt.dataset_id, attempt.model_id)
    assert ids == ("r", "q", "d", "m")
    assert attempt.ended_at is not None


@pytest.mark.parametrize(
    ("error", "outcome", "status"),
    [
        (GateError("2 of 3 checks failed"), "refused", 3),
        (ConfigError("root is empty"), "wrong", 2),
        (LeaseError("held by another"), "busy", 4),
        (StorageError("s3 does not answer"), "failed", 1),
        (OSError(28, "No space left on device", "/data/x"), "failed", 1),
        (RuntimeError("a bug"), "failed", 1),
        (MemoryError(), "failed", 1),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
def test_every_other_end_is_recorded_with_its_reason_and_raised_as_it_was(
    root, error, outcome, status
):
    told: list[Attempt] = []
    with pytest.raises(type(error)) as caught:
        run(root, raising(error), told.append)
    assert caught.value is error
    [attempt] = read_attempts(root, DATE)
    assert told == [attempt]
    assert (attempt.outcome, attempt.exit_status) == (outcome, status)
    assert attempt.reason or isinstance(error, MemoryError)


def test_a_night_that_changed_nothing_leaves_no_record_but_is_told(root):
    told: list[Attempt] = []
    run(root, lambda: result("unchanged"), told.append)
    assert read_attempts(root, DATE) == []
    assert [attempt.outcome for attempt in told] == ["unchanged"]


def test_a_night_that_died_after_it_had_published_is_told_to_be_published(root):
    config = load_config(None, [f"root={root}"]).config
    with pytest.raises(RuntimeError):
        run(root, raising(RuntimeError("died after LATEST moved")), *tellers_of(config, root))
    page = root / "reports" / f"nightly-{DATE}.html"
    assert b"died after LATEST moved" in page.read_bytes()
    for _ in range(2):  # the second changes nothing, and finds it told
        run(root, lambda: result("unchanged"), *tellers_of(config, root))
        assert [each.outcome for each in read_attempts(root, DATE)] == ["failed", "unchanged"]
        assert read_status(root).nights[0].state == "unchanged"
        assert not any(DATE in sentence for sentence in read_status(root).next)
        assert page.read_bytes().count(b"unchanged") > 0


def test_while_a_night_runs_its_record_says_so(root):
    def night():
        [attempt] = read_attempts(root, DATE)
        assert (attempt.outcome, attempt.ended_at) == ("running", None)
        return result()

    run(root, night)


def test_a_later_failure_leaves_the_record_of_a_published_night_alone(root):
    run(root, result)
    [published] = read_attempts(root, DATE)
    with pytest.raises(GateError):
        run(root, raising(GateError("too strict now")))
    assert [each.outcome for each in read_attempts(root, DATE)] == ["published", "refused"]
    assert read_attempts(root, DATE)[0] == published


def test_secrets_and_control_characters_stay_out_of_reasons(root, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-key")
    text = "https://user:pass@host/ said very-secret-key \x1b]0;title\x07" + "x" * 5000
    with pytest.raises(RuntimeError):
        run(root, raising(RuntimeError(text)))
    [attempt] = read_attempts(root, DATE)
    assert "pass" not in attempt.reason
    assert "very-secret-key" not in attempt.reason
    assert "\x1b" not in attempt.reason
    assert len(attempt.reason) == LONGEST_REASON


def test_a_teller_that_fails_is_a_warning_and_the_others_are_called(root, capsys):
    told: list[Attempt] = []

    def fail(attempt):
        raise OSError("no route to host")

    assert run(root, result, fail, told.append).run_id == "r"
    assert len(told) == 1
    assert "WARNING: nightly: the end of this night was not told: OSError: no route" in (
        capsys.readouterr().err
    )


def test_a_root_that_cannot_be_written_to_changes_no_error(root, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied", "/root/reports")

    monkeypatch.setattr(ending, "write_attempt", refuse)
    with pytest.raises(GateError):
        run(root, raising(GateError("below a floor")))
    assert attempts_of(root, DATE).children() == []


def test_a_good_night_says_what_its_gate_measured_and_where_its_page_is(root, capsys):
    config = load_config(None, [f"root={root}"]).config
    check = {"name": "users", "value": 9, "bound": 5, "setting": "nightly.min_users"}

    def night():
        now = datetime.now(UTC).isoformat(timespec="seconds")
        report = {"created_at": now, "checks": [{**check, "rule": "at least", "passed": True}]}
        (root / "reports" / f"nightly-{DATE}.json").write_json(report)
        return result()

    run(root, night, *tellers_of(config, root))
    said = capsys.readouterr().err
    assert (
        "nightly: every check passed:\n  users is 9, must be at least 5 (nightly.min_users)" in said
    )
    assert f"nightly: page {root}/reports/nightly-{DATE}.html" in said
    assert (root / "reports" / f"nightly-{DATE}.html").exists()
    assert (root / "reports" / "index.html").exists()


def test_a_night_whose_secret_is_not_set_says_so_when_it_begins(root, capsys):
    url = "nightly.notify_url=https://host/${NOT_SET_AT_ALL}"
    tellers_of(load_config(None, [f"root={root}", url]).config, root)
    assert "WARNING: nightly: nobody will be told how this night ends: " in capsys.readouterr().err


def test_every_end_is_measured_in_the_file_for_prometheus(root, tmp_path):
    target = tmp_path / "lightsans.prom"
    config = load_config(None, [f"root={root}", f"nightly.metrics_file={target}"]).config
    run(root, result, *tellers_of(config, root))
    assert 'outcome="published"} 1.0' in target.read_text()
    with pytest.raises(StorageError):
        run(root, raising(StorageError("s3 does not answer")), *tellers_of(config, root))
    assert 'outcome="failed"} 1.0' in target.read_text()
    measured = target.read_text()
    with pytest.raises(LeaseError):
        run(root, raising(LeaseError("held by another")), *tellers_of(config, root))
    assert target.read_text() == measured  # the other one tells


def test_a_metrics_file_that_cannot_be_written_is_named_and_the_gauges_are_set(
    root, tmp_path, capsys, monkeypatch
):
    (tmp_path / "no-directory").write_text("")
    shown: list[object] = []
    monkeypatch.setattr(ending, "show_on_cluster", shown.append)
    setting = f"nightly.metrics_file={tmp_path}/no-directory/lightsans.prom"
    run(root, result, *tellers_of(load_config(None, [f"root={root}", setting]).config, root))
    assert f"WARNING: {setting} was not written: " in capsys.readouterr().err
    assert len(shown) == 1


def test_nightly_clean_cleans_after_the_night(root):
    settings = [f"root={root}", "nightly.clean=true", "clean.unfinished_days=0"]
    (root / "datasets" / "dead" / "part").write_bytes(b"x")
    run(root, result, *tellers_of(load_config(None, settings).config, root))
    assert (root / "datasets").children() == []
