"""The commands of the stages: `preprocess`, `train`, `evaluate`, `score`, `pipeline` and `tune`."""

import typer

from lightsans.storage.records import to_json
from pipelines.commands.cluster import runs_on_cluster
from pipelines.commands.options import (
    BaseOption,
    ConfigOption,
    DatasetOption,
    DryRunOption,
    ForceOption,
    FromOption,
    JsonOption,
    MapItemsOption,
    ModelOption,
    OfRefitOption,
    PipelineRefitOption,
    RecommendationsOption,
    RefitOption,
    ResumeOption,
    SetOption,
    SinceOption,
    SpaceOption,
    examples,
    read_config,
    select,
    with_recommendations,
    with_space,
)
from pipelines.commands.results import (
    dataset_json,
    evaluation_json,
    model_json,
    run_json,
    search_json,
)
from pipelines.console.output import only_results_on_stdout, print_json, print_metrics, print_table
from pipelines.session.clusters import expect_own_ray

# Stages are imported by the commands that run them, once the configuration is read: neither
# `--help` nor a mistake in a setting waits for Ray and torch.


def preprocess(
    config: ConfigOption = None,
    overrides: SetOption = None,
    base: BaseOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn interaction logs into a dataset of user sequences.

    Reads parquet, csv, jsonl or RecBole's .inter from data.input (files, directories or globs) and
    writes datasets/ID under root: interactions, a sequence for every user, items, a data report.
    Rows that cannot be used go to rejects/ with file, position and reason. The same input and
    settings have the same ID, so what exists is not made again.
    """
    settings = [*(overrides or ()), *([f"data.base={base}"] if base else [])]
    loaded = read_config(config, settings)
    from pipelines.preprocess.stage import run_preprocess

    with only_results_on_stdout():
        result = run_preprocess(loaded.config, force=force)
    manifest = result.manifest
    if as_json:
        print_json(dataset_json(result))
    else:
        counts = {name: getattr(manifest, name) for name in ("users", "trainable_users", "items")}
        print_table(f"Dataset {result.dataset_id}", list(counts), [list(counts.values())])
        print(result.location)


def train(
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    resume: ResumeOption = False,
    warm_start: FromOption = None,
    refit: RefitOption = False,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model on a dataset; an interrupted run goes on from its last checkpoint.

    After every epoch all held-out valid items are ranked; training stops after train.patience
    epochs that were no better. models/ID gets the weights of the best epoch, the items,
    metrics.json and the learning curve.
    """
    if warm_start is not None:
        overrides = [*(overrides or ()), f"train.warm_start={warm_start}"]
    selected = select(config, overrides, dataset)
    expect_own_ray()
    from pipelines.train.identity import judged_model, refit_of
    from pipelines.train.stage import run_train

    run, judged = selected.loaded.config, None
    if refit:
        judged = judged_model(run, selected.model_id, "full")
        run = refit_of(run, selected.model_id)
    if dry_run:
        from pipelines.train.dry_run import dry_run as estimate

        with only_results_on_stdout():
            figures = to_json(estimate(run, selected.dataset_id))
        if as_json:
            print_json(figures)
        else:
            rows = [[name.replace("_", " "), value] for name, value in figures.items()]
            print_table("Dry run", ["figure", "value"], rows)
        return
    with only_results_on_stdout():
        result = run_train(run, selected.dataset_id, force=force, must_resume=resume, judged=judged)
    if as_json:
        print_json(model_json(result))
    else:
        valid = result.metrics.valid
        print_table(f"Model {result.model_id}", ["metric", "valid"], list(valid.items()))
        print(result.location)


def evaluate(
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    map_items: MapItemsOption = False,
    recommendations: RecommendationsOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rank held-out items with a model and the baselines, on valid and test, with 95 % intervals.

    The baselines are the most popular items of all time, those of the last evaluate.popular_days,
    and the most frequent successors of the last item; one that the model does not surely beat is
    named. The rank of every user, metrics by segment and a picture go to reports/, metrics to
    metrics.json of the model. --recommendations ranks lists that another system made beside them.
    """
    overrides = with_recommendations(overrides, recommendations)
    selected = select(config, overrides, dataset, model)
    expect_own_ray()
    from pipelines.evaluate.stage import protocol_text, run_evaluate

    with only_results_on_stdout():
        result = run_evaluate(
            selected.loaded.config,
            selected.dataset_id,
            selected.model_id,
            map_items=map_items,
            force=force,
        )
    if as_json:
        print_json(evaluation_json(result, selected.loaded))
    else:
        print_metrics(result.figures, protocol_text(selected.loaded.config, result.made_with))


def score(
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    refit: OfRefitOption = False,
    map_items: MapItemsOption = False,
    since: SinceOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the top-K recommendations of every user to parquet.

    The same command after an interruption scores only the parts that are missing. Beside the parts
    are report.json and report.png (coverage, popularity, scores, overlap with the run before);
    manifest.json comes last. docs/recommendations.md has the layouts and example queries.
    """
    selected = select(config, overrides, dataset, model, refit)
    expect_own_ray()
    from pipelines.score.stage import run_score
    from pipelines.score.table import write_to_table

    with only_results_on_stdout():
        result = run_score(
            selected.loaded.config,
            selected.dataset_id,
            selected.model_id,
            map_items=map_items,
            force=force,
            since=since,
        )
        write_to_table(selected.loaded.config, result.run_id)
    if as_json:
        print_json(run_json(result))
    else:
        print(result.location)


def pipeline(
    config: ConfigOption = None,
    overrides: SetOption = None,
    refit: PipelineRefitOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Preprocess, train, evaluate and score; finished stages are skipped.

    After an interruption the same command goes on where it was. With a changed setting only the
    stages that depend on it run anew. With --refit the recommendations are of a model that has
    learnt everything, as a night's are; the metrics are of the model that was tested.
    """
    loaded = read_config(config, overrides)
    expect_own_ray()
    from pipelines.evaluate.stage import protocol_text
    from pipelines.run_pipeline import run_pipeline

    with only_results_on_stdout():
        result = run_pipeline(loaded.config, force=force, refit=refit)
    if as_json:
        stages = {
            "dataset": dataset_json(result.dataset),
            "model": model_json(result.model),
            "evaluation": evaluation_json(result.evaluation, loaded),
            "recommendations": run_json(result.recommendations),
        }
        if result.refit is not None:
            stages["full_dataset"] = dataset_json(result.refit.dataset)
            stages["refit"] = model_json(result.refit.model)
        print_json(stages)
        return
    print_metrics(result.evaluation.figures, protocol_text(loaded.config))
    for name in ("dataset", "model", "recommendations"):
        print(f"{name:16} {getattr(result, name).location}")
    if result.refit is not None:
        print(f"{'refit':16} {result.refit.model.location}")


def tune(
    config: ConfigOption = None,
    overrides: SetOption = None,
    space: SpaceOption = None,
    dataset: DatasetOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search hyper-parameters on valid; an interrupted search goes on. Test: once, for the best."""
    selected = select(config, with_space(overrides, space), dataset)
    expect_own_ray()
    from pipelines.evaluate.stage import protocol_text
    from pipelines.tune.report import print_leaderboard
    from pipelines.tune.stage import run_tune

    loaded = selected.loaded
    with only_results_on_stdout():
        if dataset is None:
            from pipelines.preprocess.stage import run_preprocess

            run_preprocess(loaded.config)
        result = run_tune(loaded.config, selected.dataset_id, force=force)
    if as_json:
        print_json(search_json(result, loaded))
        return
    print_leaderboard(result)
    protocol = protocol_text(loaded.config, result.evaluation.made_with)
    print_metrics(result.evaluation.figures, protocol)
    for name, path in (("search", ""), ("configuration", "/best.yaml")):
        print(f"{name:16} {result.location}{path}")
    print(f"{'model':16} {result.manifest.best.model_id}")


def add_stage_commands(app: typer.Typer) -> None:
    """Add a command for each stage, for all of them in order, and for the search."""
    app.command(
        epilog=examples(
            "preprocess --config my.yaml --set data.min_rating=3",
            "preprocess --config my.yaml --base 0a1b2c3d4e5f",
        )
    )(runs_on_cluster(preprocess))
    app.command(
        epilog=examples(
            "train --config my.yaml",
            "train -c my.yaml -s train.epochs=20 --dry-run",
            "train -c my.yaml --from 0a1b2c3d4e5f",
            "train -c my.yaml --refit",
        )
    )(runs_on_cluster(train))
    incumbent = "evaluate -c my.yaml --recommendations incumbent.csv"
    app.command(epilog=examples("evaluate -c my.yaml", incumbent))(runs_on_cluster(evaluate))
    app.command(
        epilog=examples(
            "score -c my.yaml",
            "score -c my.yaml -s score.k=20 -s score.layout=long",
            "score -c my.yaml --model 0a1b2c3d4e5f --since LATEST",
            "score -c my.yaml -s score.users=segment.csv",
        )
    )(runs_on_cluster(score))
    app.command(
        epilog=examples(
            "pipeline --config pipelines/configs/quickstart.yaml",
            "pipeline -c my.yaml --refit",
            "pipeline -c my.yaml -s root=s3://bucket/prefix --json",
        )
    )(runs_on_cluster(pipeline))
    app.command(
        epilog=examples(
            "tune --space hyper.test --config my.yaml",
            "tune -c my.yaml -s 'tune.space={k_interests: {choice: [5, 10]}}' -s tune.engine=grid",
        )
    )(runs_on_cluster(tune))
