"""Batch scoring: the top-K of every user of a dataset, part by part on Ray Data, or in a task.

    recommendations/<run>/  part-*.parquet, report.json, report.png, manifest.json

Output parts correspond to input parts. A part is committed by one small file that is written after
its rows, so a rerun after any interruption scores only the parts that are missing; the manifest is
written once the rows add up to the dataset's users.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray

from lightsans.arrays import Int64
from lightsans.config import RunConfig
from lightsans.config.kinds import LAYOUTS
from lightsans.config.marks import Mark, values_with
from lightsans.dataset.vocabulary import load_vocabulary, vocabulary_mapping
from lightsans.errors import LeaseError, LightSANsError, StorageError
from lightsans.lists.excluded_users import ExcludedIds
from lightsans.lists.id_lists import IdList, describe_found, read_id_list, require_some
from lightsans.recommendations.beside import beside_identity
from lightsans.recommendations.item_choice import ItemChoice, read_item_choice
from lightsans.recommendations.segment import segment_identity
from lightsans.recommendations.writer import remove_leftovers
from lightsans.reports.run_figures import require_known_figures
from lightsans.stages.seen_rows import SeenRows
from lightsans.storage import model_files as files
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import (
    DatasetManifest,
    ModelManifest,
    RunManifest,
    RunPart,
    RunQuestion,
)
from lightsans.storage.manifests import content_id, remove_result, require_manifest
from lightsans.storage.records import from_json, to_json
from pipelines.console.logs import add_log_context, log_context
from pipelines.console.progress import bar, say
from pipelines.publish import require_unpublished
from pipelines.score.job import ScoreJob, finished_parts
from pipelines.score.old_runs import remove_old_runs
from pipelines.score.recent import count_recent
from pipelines.score.report import previous_run, write_report
from pipelines.score.since import find_earlier, named_run
from pipelines.session.lease import Owner
from pipelines.session.preflight import preflight
from pipelines.session.ray_session import configure_ray_data, ensure_ray, original_errors
from pipelines.session.stage import find_or_make
from pipelines.session.tasks import run_in_one_task

if TYPE_CHECKING:
    from pipelines.score.shared_model import Packed

FORMAT_VERSION = 2
USERS_WORTH_A_POOL = 20_000
"""Users from which scoring takes longer than starting the processes of a pool."""


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """A finished recommendation run."""

    run_id: str
    location: Location
    skipped: bool
    manifest: RunManifest


@log_context(stage="score")
def run_score(
    config: RunConfig,
    dataset_id: str,
    model_id: str,
    *,
    map_items: bool = False,
    force: bool = False,
    since: str | None = None,
) -> ScoreResult:
    """Write the recommendations of all users of a dataset, or find or complete them.

    Args:
        config: The run; ``score`` says how many, for whom, and how they are laid out.
        dataset_id: Dataset whose users to score, by their histories.
        model_id: The model, of this dataset or an earlier one.
        map_items: Translate items by raw id when the two number them differently.
        force: Score again from nothing.
        since: An earlier run, or ``LATEST``: users whose list would be the same are carried over.

    Raises:
        NotFoundError: The dataset, the model or the earlier run is not finished.
        VocabularyMismatchError: They number items differently and ``map_items`` is false.
    """
    require_known_figures(config.score)
    add_log_context(dataset_id=dataset_id, model_id=model_id)
    root = locate(config.root, config.storage)
    dataset, model = root / "datasets" / dataset_id, root / "models" / model_id
    dataset_manifest = require_manifest(
        DatasetManifest, dataset, "run `submit.py preprocess` first"
    )
    judged = require_manifest(ModelManifest, model, "run `submit.py train` first").judged
    SeenRows.of(config.score.remove_seen, dataset_manifest)  # fail before anything is started
    if config.score.probability:
        from lightsans.stages.calibration import held_out_pair  # with PyTorch

        held_out_pair(model)
    choice = read_item_choice(config)
    question = _question(config, choice, dataset_manifest, model_id, map_items)
    run = (
        root / "recommendations" / content_id("recommendations", FORMAT_VERSION, to_json(question))
    )
    add_log_context(run_id=run.name)
    started = time.monotonic()
    carried = None if since is None else named_run(root, since)

    def make(owner: Owner, anew: bool) -> RunManifest:
        vocabulary_mapping(dataset, model, map_items)  # fail before anything is started or deleted
        if anew:
            require_unpublished(root, run)
        earlier = None
        if since is not None:
            versions = (FORMAT_VERSION, dataset_manifest.user_id_type)
            chosen, rules = carried or since, config.score.rules
            earlier, reason = find_earlier(root, chosen, run, question, versions, rules)
            if earlier is None:
                say(f"score: all users are scored, nothing is carried over: {reason}")
        _say_eligible(config, choice, model)
        weights = files.weights_hash(model)
        ensure_ray()
        fitting = preflight("score", config)
        if anew:
            owner.require()
            remove_result(run)
        job = ScoreJob(
            fitting, dataset, dataset_manifest, model, run, question, earlier, weights, owner
        )
        with original_errors():
            if config.score.probability:
                from pipelines.score.calibrated import with_temperature

                job = with_temperature(job, choice)
            parts = _score_parts(job, choice)
        _require_all_users(job, parts)
        _require_ruled_users(job, choice, parts)
        files.require_weights(model, weights)
        manifest = replace(_describe(job, parts), judged=judged)
        manifest = replace(manifest, warnings=tuple(_report(job, choice, manifest)))
        files.require_weights(model, weights)  # reports of large runs take a while
        owner.require()
        remove_leftovers(run)  # nobody else writes here: the lease is ours
        return manifest

    manifest, skipped = find_or_make(
        RunManifest,
        run,
        root,
        stage="score",
        kind="run",
        make=make,
        force=force,
        is_current=lambda found: files.is_made_of(found, model),
        uses=(dataset, model, *([run.parent / carried] if carried else [])),
    )
    if not skipped:
        _say_summary(run, manifest, time.monotonic() - started)
        remove_old_runs(root, config.score, run.name, config.nightly.train)
    return ScoreResult(run.name, run, skipped, manifest)


def _report(job: ScoreJob, choice: ItemChoice, content: RunManifest) -> list[str]:
    """Write the report, and return its warnings: a run whose lists are there needs none."""
    previous = previous_run(job)
    try:
        with original_errors():
            return write_report(job, choice.eligible, content, previous)
    except (LeaseError, StorageError):
        raise
    except Exception as error:
        say(f"WARNING: score: no report was written: {type(error).__name__}: {error}")
        return [f"no report was written: {error}"]


def _question(
    config: RunConfig, choice: ItemChoice, dataset: DatasetManifest, model_id: str, map_items: bool
) -> RunQuestion:
    """All that decides the content of a run."""
    asked, beside = choice.fingerprints, beside_identity(config, dataset.data)
    settings = {
        **values_with(config.score, Mark.CONTENT),
        "eligible_items": asked["eligible_items"],
        "segment": segment_identity(config, dataset.data),
        # Runs without rules, or columns beside lists, keep the ids that they had before.
        **({} if asked["rules"] is None else {"rules": asked["rules"]}),
        **({} if beside is None else {"beside": beside}),
    }
    return RunQuestion(
        dataset_id=dataset.id, model_id=model_id, map_items=map_items, settings=settings
    )


def _say_eligible(config: RunConfig, choice: ItemChoice, model: Location) -> None:
    """Say what lists of items leave, and which names of the rules nothing answers to."""
    eligible, rules = choice.eligible, choice.rules
    if eligible is not None:
        items = load_vocabulary(model)
        for warning in eligible.check(items, config.score.allow_unmatched):
            say(f"score: WARNING: {warning}")
        say(f"score: {eligible.describe(items)}")
    if rules is not None:
        items = load_vocabulary(model)
        rules.item_rules(items)  # before anything is started: numbers that are none are an error
        for sentence in rules.check(items, config.score.allow_unmatched) + rules.describe(items):
            say(f"WARNING: {sentence}")


def _score_parts(job: ScoreJob, choice: ItemChoice) -> list[RunPart]:
    """Score what is missing; what was committed for each part, in order."""
    sizes = {part.name: part.users for part in job.dataset_manifest.parts}
    done = finished_parts(job)
    missing = [name for name in sizes if name not in done]
    if done:
        say(f"score: {len(done)} of {len(sizes)} parts are there already")
    if missing:
        dataset, manifest = job.dataset, job.dataset_manifest
        windows = job.config.score.recent_days
        counts = count_recent(dataset, manifest, windows) if windows else ()
        # Task and actors refer to it by a list: an argument of its own would be copied.
        shared = [_load_shared.remote(job, choice, counts)]
        started, users = time.monotonic(), 0
        with bar("score", sum(sizes[name] for name in missing)) as progress:
            for row in _commits(job, shared, missing):
                part = from_json(RunPart, json.loads(row["commit"]), "a part's record")
                done[part.name] = part
                users += sizes[part.name]
                speed = users / (time.monotonic() - started)
                progress.advance(sizes[part.name], note=f"({speed:,.0f} users/s)")
    return [done[name] for name in sizes]


def _commits(
    job: ScoreJob, shared: "list[ray.ObjectRef[Packed]]", names: list[str]
) -> Iterator[dict[str, Any]]:
    """The commit of each part, as they are scored."""
    score, inputs = job.config.score, [{"name": name} for name in names]
    is_little = job.dataset_manifest.users <= USERS_WORTH_A_POOL and not score.because
    if is_little and score.min_workers == 1 and not score.use_gpu:
        ray.wait(shared, fetch_local=False)  # its process is then free, with all imported
        yield from run_in_one_task(_part_scorer, [job, shared], inputs)
        return
    from ray.data import ActorPoolStrategy, from_items  # a run of few users is spared it

    from pipelines.score.parts import PartScorer

    configure_ray_data()
    most = min(len(names), score.num_workers)
    # A part to a block: a task that is repeated repeats one part.
    scored = from_items(inputs, override_num_blocks=len(inputs)).map_batches(
        PartScorer,
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=min(most, score.min_workers), max_size=most),
        num_gpus=1 if score.use_gpu else 0,
        fn_constructor_args=(job, shared),
    )
    yield from scored.iter_rows()


@ray.remote
def _load_shared(job: ScoreJob, choice: ItemChoice, counts: Sequence[Int64]) -> "Packed":
    from pipelines.score.shared_model import load_shared  # with PyTorch: not in the driver

    recent = dict(zip(job.config.score.recent_days, counts, strict=True))
    return load_shared(job.config, job.dataset, job.model, job.question, choice, recent)


def _part_scorer(*arguments: Any) -> Callable[[pa.Table], pa.Table]:
    from pipelines.score.parts import PartScorer  # likewise

    return PartScorer(*arguments)


def _require_all_users(job: ScoreJob, parts: list[RunPart]) -> None:
    """Every user of the dataset has a row, or is outside the segment."""
    expected = job.dataset_manifest.users
    users = sum(_written_users(job, part) + part.other_users for part in parts)
    if users != expected:
        raise LightSANsError(
            f"{job.run}: {users} users were written or left out but the dataset has {expected}; "
            "no manifest was written, score again with --force"
        )
    if job.question.segment is not None and not any(part.users for part in parts):
        _require_segment(job)


def _require_segment(job: ScoreJob) -> None:
    """A list of users of whom none was scored is a warning where they were taken out, or allowed.

    Raises:
        InputError: Otherwise.
    """
    path = str(job.config.score.users)
    _require_users(job, read_id_list("score.users", path, job.config, "user"), 0)


def _require_ruled_users(job: ScoreJob, choice: ItemChoice, parts: list[RunPart]) -> None:
    """Say how many of the users were found that rules of segments list.

    Raises:
        InputError: None of a list, and that is neither allowed nor because they were taken out.
    """
    counted = [part.segment_users for part in parts]
    if choice.rules is None or None in counted:  # an earlier version scored some parts
        return
    for number, listed in enumerate(choice.rules.users):
        found = sum(counts[number] for counts in counted if counts is not None)
        _require_users(job, listed, found)
        if found:
            say(f"score: {describe_found(listed, found, 'users')} ({listed.location})")


def _require_users(job: ScoreJob, listed: IdList, num_found: int) -> None:
    known = ExcludedIds.of(job.dataset).known(listed, job.dataset_manifest.user_id_type)
    warning = require_some(
        listed,
        num_found,
        f"in dataset {job.dataset.name}",
        "score.allow_unmatched",
        job.config.score.allow_unmatched or bool(len(known)),
    )
    if warning:
        say(f"score: WARNING: {warning}")


def _written_users(job: ScoreJob, part: RunPart) -> int:
    if LAYOUTS[job.config.score.layout].has_row_per_item:
        return part.users
    return sum(file.rows for file in part.files)


def _describe(job: ScoreJob, parts: list[RunPart]) -> RunManifest:
    """The manifest, without the warnings of its report."""
    manifest = job.dataset_manifest
    question, is_ruled = job.question, job.question.has_rules
    diversity = job.config.score.rules.diversity
    return RunManifest(
        id=job.run.name,
        format_version=FORMAT_VERSION,
        dataset_id=question.dataset_id,
        model_id=question.model_id,
        map_items=question.map_items,
        settings=question.settings,
        weights_sha256=job.weights,
        since=None if job.earlier is None else job.earlier.run.name,
        dataset_fingerprint=manifest.fingerprint,
        users=sum(part.users for part in parts),
        popular_users=sum(part.popular_users for part in parts),
        carried_users=sum(part.carried_users for part in parts),
        other_users=sum(part.other_users for part in parts),
        unknown_interactions=sum(part.unknown_interactions for part in parts),
        short_lists=sum(part.short_lists or 0 for part in parts) if is_ruled else None,
        unmet_quotas=sum(part.unmet_quotas or 0 for part in parts) if is_ruled else None,
        diversity_candidates=diversity.candidates if diversity.weight else None,
        dataset_users=manifest.users,
        user_id_type=manifest.user_id_type,
        item_id_type=manifest.item_id_type,
        num_parts=manifest.num_parts,
        parts=tuple(parts),
        warnings=(),
    )


def _say_summary(run: Location, manifest: RunManifest, seconds: float) -> None:
    carried = f"{manifest.carried_users:,} carried over from {manifest.since}, "
    unknown = manifest.unknown_interactions
    say(
        f"score: {manifest.users:,} users in {seconds:.1f} s, "
        + (carried if manifest.since else "")
        + f"{manifest.popular_users:,} of them by popularity, "
        + (f"{unknown:,} interactions with items unknown to the model, " if unknown else "")
        + f"run {run.name} ({run})",
        users=manifest.users,
        seconds=round(seconds, 2),
    )
    for warning in manifest.warnings:
        say(f"WARNING: {warning}")
