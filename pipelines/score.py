"""Batch scoring: the top-K of every user of a dataset, part by part on Ray Data.

    recommendations/<run>/  part-*.parquet, manifest.json

Output parts correspond to input parts. A part appears whole or not at all, so a rerun after any
interruption scores only the parts that are missing; the manifest is written once the rows add up
to the dataset's users.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
import torch
from ray.data import ActorPoolStrategy

from lightsans import checkpoint as files
from lightsans.config import RunConfig
from lightsans.dataset import list_column
from lightsans.errors import ConfigError, InputError, LightSANsError
from lightsans.manifest import content_id, read_manifest, require_manifest, write_manifest
from lightsans.recommend import POPULAR, Recommender
from lightsans.schema import id_type, recommendations_schema
from lightsans.storage import Location, locate
from pipelines.eligible_items import read_eligible_items
from pipelines.evaluate import vocabulary_mapping
from pipelines.logs import add_log_context, log_context
from pipelines.preflight import preflight
from pipelines.progress import bar, say
from pipelines.publish import latest_run_id
from pipelines.ray_session import ensure_ray, original_errors

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """A finished recommendation run."""

    run_id: str
    location: Location
    skipped: bool
    manifest: dict[str, Any]


@log_context(stage="score")
def run_score(
    config: RunConfig,
    dataset_id: str,
    model_id: str,
    *,
    map_items: bool = False,
    force: bool = False,
) -> ScoreResult:
    """Write the recommendations of all users of a dataset, or find or complete them.

    Args:
        config: The run; ``score`` says how many and whether seen items are removed.
        dataset_id: Whose users to score, and their histories.
        model_id: The model, of this dataset or an earlier one.
        map_items: Translate items by raw id when the two number them differently.
        force: Score again from nothing.

    Raises:
        NotFoundError: The dataset or the model is not finished.
        VocabularyMismatchError: They number items differently and ``map_items`` is false.
    """
    add_log_context(dataset_id=dataset_id, model_id=model_id)
    root = locate(config.root, config.storage)
    dataset, model = root / "datasets" / dataset_id, root / "models" / model_id
    dataset_manifest = require_manifest(dataset, "run `submit.py preprocess` first")
    require_manifest(model, "run `submit.py train` first")
    eligible = read_eligible_items(config)
    settings: dict[str, Any] = {"k": config.score.k, "remove_seen": config.score.remove_seen}
    # Only what is set: runs without keep the id that they had before there were these settings.
    if eligible is not None:
        settings["eligible_items"] = eligible.fingerprint
    if config.score.min_score is not None:
        settings["min_score"] = config.score.min_score
    question = {"dataset_id": dataset_id, "model_id": model_id, **settings, "map_items": map_items}
    run = root / "recommendations" / content_id("recommendations", FORMAT_VERSION, question)
    add_log_context(run_id=run.name)
    manifest = read_manifest(run)
    if manifest is not None and not force:
        say(f"score: run {run.name} is up to date ({run}); --force redoes it")
        return ScoreResult(run.name, run, True, manifest)
    vocabulary_mapping(dataset, model, map_items)  # fail before anything is started or deleted
    if eligible is not None:
        say(f"score: {eligible.describe(files.load_vocabulary(model))}")
    ensure_ray()
    fitting = preflight("score", config)
    if force:
        _require_unpublished(root, run)
        run.delete()
    started = time.monotonic()
    with original_errors():
        parts = _score_parts(fitting, dataset, dataset_manifest, model, run, question)
    manifest = _finish(run, dataset_manifest, question, parts)
    say(
        f"score: {manifest['users']:,} users in {time.monotonic() - started:.1f} s, "
        f"{manifest['popular_users']:,} of them by popularity, run {run.name} ({run})"
    )
    return ScoreResult(run.name, run, False, manifest)


def _require_unpublished(root: Location, run: Location) -> None:
    """Refuse to take away what readers of ``LATEST`` are reading."""
    if latest_run_id(root) == run.name:
        raise ConfigError(
            f"run {run.name} is published ({root}/recommendations/LATEST): --force would take it "
            "away from its readers; publish another run first, or `submit.py rollback`"
        )


def _score_parts(
    config: RunConfig,
    dataset: Location,
    dataset_manifest: Mapping[str, Any],
    model: Location,
    run: Location,
    question: Mapping[str, Any],
) -> list[dict[str, Any]]:
    names = [part["name"] for part in dataset_manifest["parts"]]
    finished = set(run.children())
    done = [_read_stats(run / name) for name in names if name in finished]
    missing = [name for name in names if name not in finished]
    if done:
        say(f"score: {len(done)} of {len(names)} parts are there already")
    if not missing:
        return done
    scorer = ray.data.from_items([{"name": name} for name in missing]).map_batches(
        PartScorer,
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=min(len(missing), config.score.num_workers)),
        num_gpus=1 if config.score.use_gpu else 0,
        fn_constructor_args=(config, dataset, model, run, dict(question)),
    )
    users = 0
    started = time.monotonic()
    with bar("score", len(missing)) as progress:
        for row in scorer.iter_rows():
            done.append(dict(row))
            users += int(row["users"])
            speed = users / (time.monotonic() - started)
            progress.advance(note=f"{users:,} users, {speed:,.0f}/s")
    return sorted(done, key=lambda part: str(part["name"]))


class PartScorer:
    """Scores whole parts; one Ray actor holds one."""

    def __init__(
        self,
        config: RunConfig,
        dataset: Location,
        model: Location,
        run: Location,
        question: dict[str, Any],
    ) -> None:
        self._dataset, self._run, self._question = dataset, run, question
        self._batch_size = config.score.batch_size
        eligible = read_eligible_items(config)
        if eligible is not None and eligible.fingerprint != question["eligible_items"]:
            raise InputError(
                "a list of items (score.allow_items, score.deny_items or score.item_table) changed "
                "while scoring; score again"
            )
        self._recommender = load_recommender(config, dataset, model, question["map_items"])
        manifest = require_manifest(dataset, "it was removed while scoring")
        self._schema = recommendations_schema(
            id_type(manifest["user_id_type"]), id_type(manifest["item_id_type"])
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Score and commit one part; its name and counts."""
        name = batch["name"][0].as_py()
        source = self._dataset / "sequences" / name
        metadata = {key: str(value) for key, value in self._question.items()}
        metadata["run_id"] = self._run.name
        users = popular = 0
        with (
            source.open() as file,
            (self._run / name).open_atomic() as aside,
            pq.ParquetWriter(aside, self._schema, compression="zstd") as writer,
        ):
            for rows in self._read(file):
                table = recommend_table(self._recommender, rows, self._schema)
                writer.write_table(table)
                users += table.num_rows
                popular += table["source"].to_pylist().count(POPULAR)
            writer.add_key_value_metadata(
                {**metadata, "users": str(users), "popular_users": str(popular)}
            )
        return pa.table({"name": [name], "users": [users], "popular_users": [popular]})

    def _read(self, file: Any) -> Iterator[pa.Table]:
        columns = ["user_id", "item_ids", "also_seen"]
        for batch in pq.ParquetFile(file).iter_batches(self._batch_size, columns=columns):
            yield pa.Table.from_batches([batch])


def load_recommender(
    config: RunConfig, dataset: Location, model: Location, map_items: bool
) -> Recommender:
    """The recommender of a model for the users of a dataset."""
    model_items, dataset_items = files.load_vocabulary(model), files.load_vocabulary(dataset)
    eligible = read_eligible_items(config)
    return Recommender(
        files.load_model(model),
        model_items,
        dataset_items,
        vocabulary_mapping(dataset, model, map_items),
        k=config.score.k,
        remove_seen=config.score.remove_seen,
        device=torch.device("cuda" if config.score.use_gpu else "cpu"),
        eligible_ids=None if eligible is None else eligible.item_ids(model_items),
        eligible_popular_ids=None if eligible is None else eligible.item_ids(dataset_items),
        min_score=config.score.min_score,
    )


def recommend_table(recommender: Recommender, rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Recommendations for some rows of a sequences table."""
    made = recommender.recommend(list_column(rows, "item_ids"), list_column(rows, "also_seen"))
    columns = [rows["user_id"], made.item_ids, made.scores, made.source]
    named = dict(zip(schema.names, columns, strict=True))
    return pa.table(named).cast(schema)


def _read_stats(part: Location) -> dict[str, Any]:
    """The counts that a finished part carries in its footer."""
    with part.open() as file:
        metadata = pq.read_metadata(file).metadata
    counts = {key: int(metadata[key.encode()]) for key in ("users", "popular_users")}
    return {"name": part.name, **counts}


def _finish(
    run: Location,
    dataset_manifest: Mapping[str, Any],
    question: Mapping[str, Any],
    parts: list[dict[str, Any]],
) -> dict[str, Any]:
    users = sum(int(part["users"]) for part in parts)
    if users != dataset_manifest["users"]:
        raise LightSANsError(
            f"{run}: {users} users were written but the dataset has {dataset_manifest['users']}; "
            "no manifest was written, score again with --force"
        )
    return write_manifest(
        run,
        {
            "kind": "recommendations",
            "id": run.name,
            "format_version": FORMAT_VERSION,
            **question,
            "dataset_fingerprint": dataset_manifest["fingerprint"],
            "users": users,
            "popular_users": sum(int(part["popular_users"]) for part in parts),
            "user_id_type": dataset_manifest["user_id_type"],
            "item_id_type": dataset_manifest["item_id_type"],
            "parts": parts,
        },
    )
