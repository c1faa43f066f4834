"""Erasure: users leave everything below a root, on disk and on S3, and stay away."""

import gzip
import io
import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import DataConfig, RunConfig, ScoreConfig, StorageConfig
from lightsans.errors import ConfigError, InputError, LeaseError, LightSANsError
from lightsans.lists.erased_users import read_erased, read_erasures
from lightsans.recommendations.reader import RunRows
from lightsans.reports.evaluation_figures import EvaluationFigures
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest, RunManifest
from lightsans.storage.manifests import require_manifest, write_manifest
from pipelines.erasure import stage
from pipelines.erasure.stage import EraseResult, run_erase
from pipelines.evaluate.ranks import RankFile
from pipelines.evaluate.stage import EvaluationManifest
from pipelines.nightly.candidate import find_candidate
from pipelines.operations.attempts import begin_attempt, ended, write_attempt
from pipelines.operations.listing import list_root
from pipelines.operations.page import write_pages
from pipelines.preprocess.stage import PreprocessResult, run_preprocess
from pipelines.publish import publish_run, read_published, roll_back
from pipelines.score.audience import AudienceManifest
from pipelines.session.lease import hold
from tests.manifests import model_manifest, run_file, run_manifest, run_part

MODEL, RUNS = "aaaaaaaaaaaa", ("bbbbbbbbbbbb", "cccccccccccc")
USERS, ITEMS = 40, 30
BEGIN = 1_600_000_000


class World(NamedTuple):
    """A root in which a user is everywhere, with the addresses of what holds the user."""

    config: RunConfig
    root: Location
    days: list[str]
    gone: str
    """Two users to be erased, one a line."""
    ids: list[str]
    first: PreprocessResult
    second: PreprocessResult


def user_name(number: int, kind: str) -> str:
    return f"person-{number:03d}-zq" if kind == "text" else str(770_000_000_000 + number)


def write_day(path: Any, kind: str, day: int, seed: int) -> str:
    """Rows of all users, the last of them, and a row that is refused."""
    rng = random.Random(seed)
    begin = BEGIN + 86_400 * day
    lines = ["user_id,item_id,timestamp"]
    for user in range(USERS):
        for step in range(4):
            lines.append(
                f"{user_name(user, kind)},{rng.randrange(ITEMS)},{begin + step * 60 + user}"
            )
    lines.append(f"{user_name(3, kind)},1,never")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def make(config: RunConfig, **data: Any) -> PreprocessResult:
    return run_preprocess(replace(config, data=replace(config.data, **data)))


def make_world(tmp_path: Any, storage: StorageConfig, root_uri: str, kind: str) -> World:
    days = [write_day(tmp_path / f"day{n}.csv", kind, n, n) for n in range(3)]
    data = DataConfig(num_parts=3, keep_reject_values=True, max_reject_fraction=None)
    data = replace(data, columns=replace(data.columns, rating=None), item_id_type="string")
    score = ScoreConfig(k=5, num_workers=1)
    config = RunConfig(root=root_uri, storage=storage, data=data, score=score)
    root = locate(root_uri, storage)
    first = make(config, input=(days[0],))
    second = make(config, input=tuple(days[:2]), base=first.dataset_id)
    ids = [user_name(3, kind), user_name(17, kind)]
    gone = tmp_path / "gone.txt"
    gone.write_text("\n".join(ids))
    return World(config, root, days, str(gone), ids, first, second)


def users_of(dataset: Location) -> dict[str, pa.Array]:
    """Users of each part of a dataset, in the order of its sequences."""
    directory = dataset / "sequences"
    return {
        name: (directory / name).read_table(["user_id"])["user_id"].combine_chunks()
        for name in directory.children()
    }


def write_run(world: World, name: str, made: PreprocessResult) -> None:
    """A run with a list for each user of a dataset."""
    run, parts = world.root / "recommendations" / name, []
    for part, users in users_of(made.location).items():
        lists = [[str(at), str(at + 1)] for at in range(len(users))]
        source = ["model" if at % 3 else "popular" for at in range(len(users))]
        table = pa.table(
            {"user_id": users, "item_ids": lists, "scores": [[2.0, 1.0]] * len(users)}
            | {"source": source}
        )
        (run / part).write_table(table)
        file = run_file(run, part, len(users))
        popular = source.count("popular")
        parts.append(run_part(part, users=len(users), popular_users=popular, files=(file,)))
    (run / "report.json").write_json({"figures": {}})
    told = {
        "dataset_id": made.dataset_id,
        "model_id": MODEL,
        "dataset_users": USERS,
        "user_id_type": made.manifest.user_id_type,
        "num_parts": 3,
    }
    popular = sum(part.popular_users for part in parts)
    manifest = run_manifest(name, users=USERS, popular_users=popular, parts=tuple(parts), **told)
    write_manifest(run, manifest)
    publish_run(read_published(world.root), name)


def write_ranks(world: World) -> None:
    """An evaluation, and audiences, of all users of the second dataset."""
    evaluation = world.root / "reports" / "evaluate-eeeeeeeeeeee"
    ranks = []
    for name, users in users_of(world.second.location).items():
        (evaluation / "ranks" / name).write_table(pa.table({"user_id": users}))
        ranks.append(RankFile(name=name, rows=len(users)))
    dataset = world.second.dataset_id
    write_manifest(
        evaluation,
        EvaluationManifest(
            dataset=dataset,
            model=MODEL,
            protocol={},
            map=False,
            figures=EvaluationFigures(metrics={}),
            ranks=tuple(ranks),
        ),
    )
    audience = world.root / "audience" / "dddddddddddd"
    users = pa.concat_arrays(list(users_of(world.second.location).values()))
    (audience / "audience.parquet").write_table(pa.table({"item_id": users, "user_id": users}))
    counts: dict[str, Any] = {
        "listed_items": 1,
        "unknown_items": 0,
        "weights_sha256": "",
        "rows": USERS,
    }
    manifest = AudienceManifest(
        id=audience.name,
        format_version=1,
        dataset_id=dataset,
        model_id=MODEL,
        settings={},
        **counts,
    )
    write_manifest(audience, manifest)


def fill(world: World) -> None:
    """Runs, an evaluation, audiences, a night, and what dead processes left."""
    config, root = world.config, world.root
    write_run(world, RUNS[0], world.first)
    write_run(world, RUNS[1], world.second)
    write_ranks(world)
    begun = begin_attempt("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC))
    told = replace(begun, run_id=RUNS[1], instead_of=RUNS[0], dataset_id=world.second.dataset_id)
    write_attempt(root, ended(told, "published", f"of {world.ids[0]}", 0))
    shown = replace(config, nightly=replace(config.nightly, page_users=USERS))
    write_pages(shown, root, "2026-01-02")
    trained = root / "models" / MODEL
    write_manifest(trained, model_manifest(MODEL, dataset_id=world.second.dataset_id))
    (trained / "checkpoints" / "epoch-00001" / "progress.json").write_json({"user": world.ids[1]})
    content = (world.second.location / "interactions" / "part-00000.parquet").read_bytes()
    (root / "datasets/0123456789ab/interactions/part-00000.parquet").write_bytes(content)
    (root / "tune/ab0/_work/x.parquet").write_bytes(content)
    (root / "tune/ab0/_work/y.json.gz").write_bytes(gzip.compress(json.dumps(world.ids).encode()))
    (root / "recommendations/ba9876543210/part-00000.parquet").write_bytes(content[:99])


def words_of(root: Location) -> dict[str, str]:
    """All content below a root as text: tables row by row, what is compressed unpacked."""
    found = {}
    for file in list_root(root).files:
        content = (root / file.path).read_bytes()
        if content[:4] == b"PAR1" and content[-4:] == b"PAR1":
            table = pq.read_table(io.BytesIO(content))
            found[file.path] = f"{table.to_pylist()} {table.schema.metadata}"
        elif content[:2] == b"\x1f\x8b":
            found[file.path] = gzip.decompress(content).decode()
        else:
            found[file.path] = content.decode(errors="replace")
    return found


def files_with(world: World) -> set[str]:
    words = words_of(world.root)
    return {path for path, text in words.items() if any(name in text for name in world.ids)}


def rows_of(root: Location, run_id: str) -> dict[Any, Any]:
    run = root / "recommendations" / run_id
    manifest = require_manifest(RunManifest, run, "")
    rows = RunRows(run, manifest, [part.name for part in manifest.parts], 1000).between(0, 4095)
    assert manifest.users == rows.num_rows
    return {row["user_id"]: row for row in rows.to_pylist()}


def state(root: Location) -> dict[str, bytes]:
    return {
        file.path: (root / file.path).read_bytes()
        for file in list_root(root).files
        if not file.path.startswith("locks/")
    }


@pytest.fixture(params=["text", "integers"])
def world(request, ray_cluster, tmp_path):
    """Text on disk, integers on S3."""
    kind, storage, uri = request.param, StorageConfig(), f"{tmp_path}/root"
    if kind == "integers":
        server = request.getfixturevalue("s3_server")
        storage, uri = StorageConfig(endpoint_url=server.endpoint_url), server.uri("erased")
    return make_world(tmp_path, storage, uri, kind)


@pytest.fixture
def on_disk(ray_cluster, tmp_path):
    return make_world(tmp_path, StorageConfig(), f"{tmp_path}/root", "text")


def test_erased_users_leave_everything_and_stay_away(world):
    fill(world)
    root, published = world.root, read_published(world.root)
    before = rows_of(root, str(published.run_id))
    rooms = {path.split("/")[0] for path in files_with(world)}
    assert rooms >= {"datasets", "recommendations", "reports", "tune", "models"}
    untouched = state(root)

    planned = run_erase(world.config, world.gone, dry_run=True)
    assert state(root) == untouched
    result = run_erase(world.config, world.gone)
    assert [step for one in result.roots for step in one.steps] == [
        step for one in planned.roots for step in one.steps
    ]
    assert (result.listed, result.found) == (2, 2)
    assert files_with(world) == set()
    _require_replaced(world, before)

    done = state(root)
    again = run_erase(world.config, world.gone)
    assert [one.steps for one in again.roots] == [()]
    assert state(root) == done
    _require_away(world, result)


def _require_replaced(world: World, before: dict[Any, Any]) -> None:
    """Everyone else's lists are as they were, and a rollback finds the run before."""
    published = read_published(world.root)
    after = rows_of(world.root, str(published.run_id))
    assert {str(user) for user in before} - {str(user) for user in after} == set(world.ids)
    assert after == {user: row for user, row in before.items() if user in after}
    assert roll_back(published).action == "rollback"
    assert len(rows_of(world.root, str(read_published(world.root).run_id))) == USERS - 2
    run_erase(world.config, world.gone)
    assert read_published(world.root).waiting is not None


def _require_away(world: World, result: EraseResult) -> None:
    """Datasets that are made later, from the log or from a base, do not have them again."""
    [root] = result.roots
    assert MODEL in root.models
    second = root.replaced[world.second.dataset_id]
    manifest = require_manifest(DatasetManifest, world.root / "datasets" / second, "")
    assert manifest.users == USERS - 2
    assert manifest.base == root.replaced[world.first.dataset_id]
    whole = make(world.config, input=tuple(world.days))
    added = make(world.config, input=tuple(world.days), base=second)
    assert whole.manifest.users == added.manifest.users == USERS - 2
    assert whole.manifest.interactions == added.manifest.interactions
    assert whole.manifest.rows.excluded == added.manifest.rows.excluded > 0
    assert files_with(world) == set()


def test_a_killed_erasure_goes_on_and_ends_alike(on_disk, monkeypatch):
    """Ended after datasets, after runs, before and after LATEST moved, and between removals."""
    fill(on_disk)
    lists = rows_of(on_disk.root, str(read_published(on_disk.root).run_id))

    class Killed(BaseException):
        pass

    places = ["replace_run", "replace_evaluation", "write_erasures", "publish_replacements"]
    for name in [*places, "rename_in_reports", "remove_result", "take_out_of_pages", "_prove"]:
        with monkeypatch.context() as patch:

            def die(*_: object) -> None:
                raise Killed

            patch.setattr(stage, name, die)
            with pytest.raises(Killed):
                run_erase(on_disk.config, on_disk.gone)
        run_id = str(read_published(on_disk.root).run_id)
        assert set(lists) - set(rows_of(on_disk.root, run_id)) <= set(on_disk.ids)
    run_erase(on_disk.config, on_disk.gone)
    assert files_with(on_disk) == set()
    _require_replaced(on_disk, lists)


def test_a_root_that_is_at_work_is_left_alone_and_mistakes_change_nothing(on_disk, tmp_path):
    before = state(on_disk.root)
    lock = on_disk.root / "locks" / "model-x.json"
    with hold(lock, "train", 60), pytest.raises(LeaseError, match=r"model-x\.json: held by train"):
        run_erase(on_disk.config, on_disk.gone)
    nobody = tmp_path / "nobody.txt"
    nobody.write_text("nobody-of-this-log")
    with pytest.raises(InputError, match=r"none of its 1 ids was .* or give --allow-unmatched if"):
        run_erase(on_disk.config, str(nobody))
    inside = tmp_path / "root" / "gone.txt"
    inside.write_text(on_disk.ids[0])
    with pytest.raises(ConfigError, match="lies below root="):
        run_erase(on_disk.config, str(inside))
    inside.unlink()
    assert state(on_disk.root) == before
    other = on_disk.root / "notes" / "by-hand.txt"
    other.write_bytes(f"see {on_disk.ids[0]}.".encode())
    with pytest.raises(LightSANsError, match=r"still in 1 files below .*: notes/by-hand\.txt"):
        run_erase(on_disk.config, on_disk.gone)
    other.delete()
    assert run_erase(on_disk.config, on_disk.gone).found == 2
    assert run_erase(on_disk.config, str(nobody), allow_unmatched=True).found == 0
    users = read_erased(on_disk.root)
    assert users is not None
    assert users.knows("nobody-of-this-log")


def test_roots_of_a_backtest_below_a_root_are_erased_and_its_report_follows(ray_cluster, tmp_path):
    policy = f"{tmp_path}/root/backtests/0123456789ab/weekly"
    inner = make_world(tmp_path, StorageConfig(), policy, "text")
    write_run(inner, RUNS[0], inner.first)
    outer = locate(f"{tmp_path}/root", StorageConfig())
    report = outer / "backtests" / "0123456789ab" / "report.json"
    report.write_json({"published": RUNS[0], "dataset": inner.second.dataset_id})
    result = run_erase(replace(inner.config, root=outer.uri), inner.gone)
    assert result.found == 2
    assert files_with(inner) == set()
    [_, weekly] = result.roots
    published = read_published(inner.root).run_id
    assert published not in (None, RUNS[0])
    assert report.read_json() == {
        "published": published,
        "dataset": weekly.replaced[inner.second.dataset_id],
    }


def test_a_dataset_of_which_nobody_is_left_is_removed(on_disk, tmp_path):
    everybody = tmp_path / "everybody.txt"
    everybody.write_text("\n".join(user_name(number, "text") for number in range(USERS)))
    [made] = run_erase(on_disk.config, str(everybody)).roots
    assert set(made.replaced.values()) == {""}
    assert (on_disk.root / "datasets").children() == []
    with pytest.raises(InputError, match=r"no row|nothing|none"):
        make(on_disk.config, input=tuple(on_disk.days))


def test_a_night_begins_with_no_model_that_learnt_from_erased_users(on_disk):
    write_run(on_disk, RUNS[1], on_disk.second)
    write_manifest(
        on_disk.root / "models" / MODEL, model_manifest(MODEL, dataset_id=on_disk.second.dataset_id)
    )
    run_erase(on_disk.config, on_disk.gone)
    published = read_published(on_disk.root)
    told = replace(published.history[-1], as_of="2020-01-01T00:00:00+00:00")
    found, reason = find_candidate(
        on_disk.root,
        replace(published, history=(told,)),
        datetime(2026, 1, 1, tzinfo=UTC),
        on_disk.second.manifest,
    )
    assert found is None
    assert f"model {MODEL} has learnt from users who were erased" in reason
    assert set(read_erasures(on_disk.root).models) == {MODEL}
