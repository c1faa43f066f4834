"""Hyper-parameter search: Ray Tune over whole training runs.

    tune/<id>/  trials/              a record a trial, and checkpoints (`pipelines.tune.records`)
                best.yaml            what `train --config` takes to make the best model again
                leaderboard.parquet  leaderboard.csv  history.png  importance.png
                manifest.json        written last

The id is a hash of the question: dataset, the run that is varied, the space, engine, scheduler and
seed. The budget is not part of it: the same search with a larger one goes on where it ended. Trials
compete on valid alone; test is computed once, for the winner, by the ordinary evaluation.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import tune

from lightsans.config import RunConfig, TuneConfig
from lightsans.config.file import dump_yaml
from lightsans.config.kinds import SCHEDULES
from lightsans.config.marks import Mark, values_with
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.errors import ConfigError, TrainingError
from lightsans.scratch import scratch_directory
from lightsans.search.space import SearchSpace, build_space
from lightsans.stages.first_weights import warm_weights_hash
from lightsans.stages.untested import require_held_out
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import (
    MANIFEST,
    content_id,
    is_finished,
    remove_result,
    require_manifest,
)
from lightsans.storage.parts import read_metrics
from pipelines.console.logs import add_log_context, log_context
from pipelines.console.progress import say
from pipelines.embedded.start import have_dashboard
from pipelines.evaluate.stage import EvaluateResult, run_evaluate
from pipelines.session.cpus import machine_cpus
from pipelines.session.lease import Owner
from pipelines.session.preflight import preflight, train_places
from pipelines.session.ray_session import ensure_ray, original_errors
from pipelines.session.stage import find_or_make
from pipelines.train.identity import model_id
from pipelines.train.model_directory import finish_model
from pipelines.train.stage import run_train
from pipelines.tune.ray_adapters import BudgetStopper, RecordedSearcher, Recorder, make_scheduler
from pipelines.tune.records import BestTrial, SearchManifest, TrialStore
from pipelines.tune.report import TrialBoard, describe, leaderboard, save_leaderboard, save_plots
from pipelines.tune.search import Search
from pipelines.tune.trial import TrialTask, TrialTrainable, load_tape

FORMAT_VERSION = 1
BEST = "best.yaml"


@dataclass(frozen=True, slots=True)
class TuneResult:
    """A finished search."""

    search_id: str
    location: Location
    skipped: bool
    manifest: SearchManifest
    evaluation: EvaluateResult


@log_context(stage="tune")
def run_tune(config: RunConfig, dataset_id: str, *, force: bool = False) -> TuneResult:
    """Search for the best settings of ``tune.space`` on a finished dataset, or find it done.

    Raises:
        NotFoundError: The dataset is not finished.
        ConfigError: The space or the budget makes no sense.
        TrainingError: No trial ended an epoch.
        KeyboardInterrupt: Somebody ended the search; the same call goes on with it.
    """
    root = locate(config.root, config.storage)
    dataset = root / "datasets" / dataset_id
    require_held_out(
        require_manifest(DatasetManifest, dataset, "run `submit.py preprocess` first"),
        "tune on a dataset with held-out items",
    )
    space = build_space(config.tune.space, trial_base(config), "tune.space")
    name = search_id(space, dataset_id)
    add_log_context(dataset_id=dataset_id, search_id=name)
    directory = root / "tune" / name

    def make(owner: Owner, anew: bool) -> SearchManifest:
        if force:
            ensure_ray()
            preflight("tune", space.base)  # a refused run must not cost the old result
            owner.require()
            remove_result(directory)
        (directory / MANIFEST).delete()  # a larger budget: it is unfinished again
        return _search(space, dataset, directory, root, owner)

    manifest, skipped = find_or_make(
        SearchManifest,
        directory,
        root,
        stage="tune",
        kind="search",
        make=make,
        force=force,
        is_current=lambda found: found.budget == _budget(config.tune),
        uses=(dataset,),
    )
    best = space.configure(manifest.best.values)
    evaluation = run_evaluate(best, dataset_id, manifest.best.model_id)
    return TuneResult(name, directory, skipped, manifest, evaluation)


def trial_base(config: RunConfig) -> RunConfig:
    """The training run that a search varies: workers are those of a trial.

    Raises:
        ConfigError: It is a refit, which has nothing to compare by.
    """
    if config.train.refit_epochs is not None:
        raise ConfigError("train.refit_epochs leaves nothing to validate on; tune without it")
    train = replace(config.train, num_workers=config.tune.num_workers)
    return replace(config, train=train)


def search_id(space: SearchSpace, dataset_id: str) -> str:
    """The id of a search: a hash of all that decides its draws and the end of its trials."""
    settings = values_with(space.base.tune, Mark.CONTENT)
    dimensions = [[d.name, d.kind, list(d.arguments)] for d in space.dimensions]
    question = {"run": model_id(space.base, dataset_id), "space": dimensions, **settings}
    return content_id("search", FORMAT_VERSION, question)


def _budget(settings: TuneConfig) -> dict[str, Any]:
    return values_with(settings, Mark.BUDGET)


def _search(
    space: SearchSpace, dataset: Location, directory: Location, root: Location, owner: Owner
) -> SearchManifest:
    """Run or continue the search; its manifest."""
    base = space.base
    with TrialBoard() as board:
        store = TrialStore(directory, owner.require)
        search = Search(space, store, dataset.name, board.show)
        _require_an_end(search)
        _say_what_is_searched(search, directory)
        load_vocabulary(dataset)  # raises if it was replaced: not only after the first trial
        ensure_ray()
        base = preflight("tune", base)  # as many workers as there is room for
        if base.train.num_workers != 1:
            have_dashboard()
        slots = _slots(base)
        with _ends_on_interrupt(search):
            _run_trials(search, base, dataset, directory, root, slots, owner)
        search.close()
    if search.fault is not None:
        raise search.fault
    if search.interrupted:
        raise KeyboardInterrupt
    owner.require()
    best = _save_best(search, dataset, directory, root)
    save_leaderboard(leaderboard(search, space), directory)
    shares = save_plots(search, directory)
    train_s = sum(record.train_s for record in search.trials.values())
    statuses = [record.status for record in search.trials.values()]
    return SearchManifest(
        id=directory.name,
        format_version=FORMAT_VERSION,
        dataset_id=dataset.name,
        metric=search.metric,
        budget=_budget(base.tune),
        trials={status: statuses.count(status) for status in sorted(set(statuses))},
        epochs=sum(len(record.history) for record in search.trials.values()),
        spent_s=round(search.spent_s, 1),
        train_s=round(train_s, 1),
        slots=slots,
        importance=shares,
        best=best,
    )


def _require_an_end(search: Search) -> None:
    if search.combinations is None and all(v is None for v in _budget(search.settings).values()):
        raise ConfigError(
            "tune.space has no end of combinations: set tune.max_trials, tune.max_minutes or "
            "tune.target"
        )


def _say_what_is_searched(search: Search, directory: Location) -> None:
    settings, count = search.settings, len(search.combinations or ())
    for dimension in search.space.dimensions:
        shown = ", ".join(
            f"{a:.4g}" if isinstance(a, float) else str(a) for a in dimension.arguments
        )
        say(f"tune: {dimension.name} {dimension.kind} {shown}")
    invalid = (search.space.size or 0) - count if search.combinations is not None else 0
    left_out = f" ({invalid} more are not valid)" if invalid else ""
    say(
        f"tune: search {directory.name}, {settings.engine} with {settings.scheduler}, "
        + (f"{count} combinations{left_out}" if count else "no end of combinations")
        + f", at most {search.epochs} epochs each"
    )
    ended = sum(not record.is_running for record in search.trials.values())
    if search.trials:
        running = ", ".join(
            f"trial {r.number} after epoch {len(r.history)}"
            for r in search.trials.values()
            if r.is_running
        )
        say(f"tune: the search goes on: {ended} trials have ended; {running or 'none is running'}")


def _slots(base: RunConfig) -> int:
    """Number of trials that train at a time."""
    places = train_places(base)
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    here = ray.get_runtime_context().get_node_id()
    if [node["NodeID"] for node in nodes] == [here] and not base.train.use_gpu:
        # A Ray of our own has more logical CPUs than there are cores.
        places = min(places, machine_cpus())
    limit = base.tune.max_concurrent
    fitting = max(1, places // base.train.most_workers)
    return fitting if limit is None else min(limit, fitting)


def _run_trials(
    search: Search,
    base: RunConfig,
    dataset: Location,
    directory: Location,
    root: Location,
    slots: int,
    owner: Owner,
) -> None:
    shards = base.train.virtual_shards
    varied = {dimension.name for dimension in search.space.dimensions}
    times = base.model.reads_times or not varied.isdisjoint(("model.gaps", "model.interest_decay"))
    loaded: list[Any] = [load_tape.remote(dataset, shard, shards, times) for shard in range(shards)]
    # Loaded before a trial waits for them: what is wrong with the data is said here, of no trial.
    with original_errors():
        ray.get([ending for _, ending in loaded])
    tapes = [tape for tape, _ in loaded]
    begins_with = warm_weights_hash(base)
    task = TrialTask(dataset, directory / "trials", root / "models", tapes, owner, begins_with)
    trainable = tune.with_parameters(TrialTrainable, task=task)
    # Nothing of Ray Tune's own is kept: the records are enough to go on from.
    with _quiet_tune(), scratch_directory("lightsans-tune-") as scratch:
        tune.Tuner(
            tune.with_resources(trainable, _resources(base)),
            tune_config=tune.TuneConfig(
                search_alg=RecordedSearcher(search, base.train.most_workers),
                scheduler=make_scheduler(search),
                num_samples=-1,
                max_concurrent_trials=slots,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=directory.name,
                storage_path=scratch,
                failure_config=tune.FailureConfig(max_failures=0),  # `Search.fail` does that
                # Else trials on other machines would look for this driver's scratch directory.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[Recorder(search)],
                stop=BudgetStopper(search),
                verbose=0,
            ),
        ).fit()


def _resources(base: RunConfig) -> dict[str, float]:
    """Resources of a trial itself; the workers of a distributed one ask for theirs besides."""
    if base.train.most_workers > 1:
        return {"memory": 1}  # a byte: it only waits, and a CPU that it held would lack its workers
    return {"GPU": 1} if base.train.use_gpu else {"CPU": 1}


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """Ray Tune without its loggers, its own snapshots, its table and its words on failed trials."""
    settings = {
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial reports no metric
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it misses its own files, and advises to restore from them
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _ends_on_interrupt(search: Search) -> Iterator[None]:
    """Let the first Ctrl-C end the search in order; the second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: Any) -> None:
        say("tune: ending; every trial keeps its last epoch (once more to end at once)")
        search.interrupted = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# ---- the result ----------------------------------------------------------------------------------


def shortened(run: RunConfig, epochs: int) -> RunConfig | None:
    """The run that ends after some epochs and is the same until then; None where there is none.

    A schedule that depends on all epochs would have been another one, and a run that ends within
    its warm-up is not a valid configuration.
    """
    if SCHEDULES[run.train.schedule].needs_end or run.train.warmup_epochs >= epochs:
        return None
    return replace(run, train=replace(run.train, epochs=epochs))


def _save_best(search: Search, dataset: Location, directory: Location, root: Location) -> BestTrial:
    """Make the best trial's model an ordinary one, and its configuration a file."""
    record = search.best
    if record is None:
        errors = [r.error for r in search.trials.values() if r.error]
        reason = f"; the first failed with: {errors[0]}" if errors else ""
        raise TrainingError(f"{directory}: no trial ended an epoch{reason}")
    run = search.configuration(record)
    models, has_ended = root / "models", record.status == "finished"
    if not is_finished(models / record.model_id) and not has_ended:
        shorter = shortened(run, len(record.history))
        if shorter is None:
            say("tune: the best trial was ended early; its learning rate needs all its epochs")
            run_train(run, dataset.name)
        else:
            run = shorter
    name = model_id(run, dataset.name)
    if not is_finished(models / name):
        row = record.best_row(search.metric)
        assert row is not None
        trial = directory / "trials" / f"{record.number:04d}"
        finish_model(
            run,
            dataset,
            require_manifest(DatasetManifest, dataset, "it was removed during the search"),
            models / name,
            trial / "checkpoints" / f"epoch-{row.epoch:05d}",
            record.history,
        )
    (directory / BEST).write_bytes(dump_yaml(run).encode())
    valid = read_metrics(models / name).valid
    say(f"tune: best is trial {record.number} ({describe(record.values)})")
    return BestTrial(
        trial=record.number,
        values=record.values,
        epochs=run.train.epochs,
        model_id=name,
        valid=valid,
    )
