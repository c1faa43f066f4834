"""Settings of training, and of a search over whole training runs."""

from dataclasses import dataclass
from typing import Literal

from lightsans.config.checks import at_least, fraction, require
from lightsans.config.kinds import Engine, Optimizer, Schedule, Scheduler
from lightsans.config.marks import Mark, made_setting, setting

Space = dict[str, dict[str, list[int | float | str | bool | None]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Optimization, validation and checkpoints."""

    num_workers: int | tuple[int, int] = setting(2, Mark.AT_ONCE)
    """Processes that train together (DDP). [least, most]: as many as the cluster has room for, and
    on with fewer while a machine is missing. Every worker draws dropout masks of its own: without
    dropout, results differ by float error alone, with it as for another seed."""
    use_gpu: bool = setting(False, Mark.NO_EFFECT)
    """One GPU per worker."""
    epochs: int = setting(100, Mark.CONTENT)
    batch_size: int = setting(32, Mark.CONTENT, Mark.SEARCHABLE)
    """Over all workers: windows of max_seq_len + 1 items for causal, prefixes for the others."""
    micro_batches: int = setting(1, Mark.CONTENT)
    """Pieces that a worker computes its share of a batch in, one after the other: less memory, the
    same step."""
    learning_rate: float = setting(0.002, Mark.CONTENT, Mark.SEARCHABLE)
    optimizer: Optimizer = setting("adam", Mark.CONTENT, Mark.SEARCHABLE)
    """adamw takes weight decay from the weights themselves, adam adds it to the gradients."""
    weight_decay: float = setting(0.0, Mark.CONTENT, Mark.SEARCHABLE)
    """Decay of weight matrices; biases, layer norms and embeddings are excluded."""
    warmup_epochs: float = setting(0.0, Mark.CONTENT, Mark.SEARCHABLE)
    """Epochs, or a part of one, over which the learning rate rises from 0."""
    schedule: Schedule = setting("constant", Mark.CONTENT, Mark.SEARCHABLE)
    """cosine: after the warm-up the learning rate falls to 0, reached with the last of epochs."""
    clip_norm: float | None = setting(None, Mark.CONTENT, Mark.SEARCHABLE)
    """Gradients are scaled down to this global norm; null leaves them as they are."""
    ema_decay: float | None = setting(None, Mark.CONTENT)
    """The model is a moving average of the weights over the steps, of which this part stays in a
    step: 0.995, for example. Valid measures it, and it is what is kept. Better than the last
    weights at a constant learning rate, no better after cosine. Not with losses that train only
    the items of a step. null: the last weights."""
    seed: int = setting(2020, Mark.CONTENT, Mark.SEARCHABLE)
    window_stride: int | None = setting(None, Mark.CONTENT, Mark.SEARCHABLE)
    """Distance between the windows of a long history (causal only); null is max_seq_len // 2."""
    target_span: int = setting(1, Mark.CONTENT, Mark.SEARCHABLE, Mark.LATER)
    """Items after an input that its target is drawn from, anew in each epoch (causal only): for
    lists of what is met soon, not of what comes next. 1: the next item."""
    precision: Literal["fp32", "bf16"] = setting("fp32", Mark.CONTENT)
    """bf16 multiplies matrices in bfloat16 while training (autocast); softmaxes, sums, weights and
    ranking stay in fp32. Faster where the processor or GPU knows bfloat16."""
    compile: bool = setting(False, Mark.NO_EFFECT)
    """Compile the layers with torch.compile while training: minutes at the start, and faster steps
    afterwards. Without a working compiler training goes on uncompiled, with a warning. No effect on
    results beyond float error."""
    table_precision: Literal["fp32", "bf16"] = setting("fp32", Mark.CONTENT)
    """Precision in which item vectors and their optimizer state are kept while training with a
    sampled loss; bf16 halves that memory and rounds stochastically. Arithmetic is fp32 either
    way."""
    virtual_shards: int = setting(8, Mark.CONTENT)
    """Pieces that the order of training is defined over; at least the number of workers."""
    id_dropout_prob: float = setting(0.2, Mark.CONTENT, Mark.SEARCHABLE, Mark.LATER)
    """Share of the items that a step of training knows by their features alone, so that vectors of
    new items mean something. Only with data.item_features."""
    valid_metric: Literal["ndcg@10", "hit@10", "mrr@10"] = setting("ndcg@10", Mark.CONTENT)
    """Metric of early stopping and of the choice of the best epoch."""
    warm_start: str | None = setting(None, Mark.RESOLVED, Mark.PATH_OR_NAME)
    """A model to begin with, by its id or directory: weights are copied, item rows by raw id; new
    items begin as in any new model. ``train --from`` sets it."""
    refit_epochs: int | None = setting(None, Mark.CONTENT)
    """Train on all interactions, those for valid and test included, for so many of the epochs;
    nothing is validated. ``train --refit`` sets it."""
    patience: int = setting(10, Mark.CONTENT, Mark.SEARCHABLE)
    """Epochs without a better valid metric after which training stops; 0 never stops early."""
    eval_batch_size: int = setting(512, Mark.NO_EFFECT)
    """Users ranked at once during validation, per worker."""
    max_failures: int = setting(3, Mark.NO_EFFECT)
    """Restarts of a run from its last checkpoint when workers are lost. Machines that are
    taken away with notice do not count."""
    checkpoint_steps: int | None = setting(None, Mark.NO_EFFECT)
    """Steps of an epoch after which a checkpoint is written, beside one after every epoch."""
    checkpoint_minutes: float | None = setting(5.0, Mark.NO_EFFECT)
    """Minutes after which a checkpoint is written in the middle of an epoch; null: never."""
    keep_checkpoints: int = setting(2, Mark.NO_EFFECT)
    """Newest checkpoints to keep, besides that of the best epoch."""
    collective_timeout_s: int = setting(600, Mark.NO_EFFECT)
    """Seconds that workers wait for each other before a run counts as stuck."""
    tape_memory_mb: int | None = setting(None, Mark.NO_EFFECT)
    """Sequences that a worker holds in memory; what is beyond lies in a file on its disk, of which
    the system keeps in memory what is used. null: all in memory."""
    mlflow_uri: str | None = setting(None, Mark.NO_EFFECT, Mark.PATH_OR_NAME)
    """MLflow tracking server or directory to log runs to, such as file:///data/mlruns."""

    @property
    def least_workers(self) -> int:
        """Fewest processes that training goes on with."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def most_workers(self) -> int:
        """Most processes that train together."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]

    def __post_init__(self) -> None:
        at_least("train", self, 1, "epochs", "batch_size", "virtual_shards", "micro_batches")
        at_least("train", self, 1, "checkpoint_steps", "keep_checkpoints", "refit_epochs")
        at_least("train", self, 1, "collective_timeout_s")
        at_least("train", self, 0, "weight_decay", "warmup_epochs", "tape_memory_mb")
        require(
            1 <= self.least_workers <= self.most_workers,
            f"train.num_workers={self.num_workers} must be a number from 1, or [least, most]",
        )
        fraction("train", self, "id_dropout_prob")
        for name in ("checkpoint_minutes", "clip_norm"):
            value = getattr(self, name)
            require(
                value is None or value > 0,
                f"train.{name}={value} must be positive; null turns it off",
            )
        require(
            self.ema_decay is None or 0 < self.ema_decay < 1,
            f"train.ema_decay={self.ema_decay} is not between 0 and 1; null turns it off",
        )
        require(
            self.warmup_epochs < self.epochs,
            f"train.warmup_epochs={self.warmup_epochs} is not less than train.epochs={self.epochs}",
        )
        require(
            self.refit_epochs is None or self.refit_epochs <= self.epochs,
            f"train.refit_epochs={self.refit_epochs} is more than train.epochs={self.epochs}, over "
            "which the learning rate is planned",
        )
        at_least("train", self, 1, "window_stride", "eval_batch_size", "target_span")
        at_least("train", self, 0, "patience", "max_failures", "seed")
        require(
            self.learning_rate > 0, f"train.learning_rate={self.learning_rate} must be positive"
        )
        require(
            self.virtual_shards >= self.most_workers,
            f"train.virtual_shards={self.virtual_shards} is less than "
            f"train.num_workers={self.most_workers}; raise it (it changes the order of training)",
        )
        require(
            self.batch_size >= self.virtual_shards,
            f"train.batch_size={self.batch_size} is less than "
            f"train.virtual_shards={self.virtual_shards}; every shard gives at least one "
            "sequence to a batch",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneConfig:
    """Search for hyper-parameters; ``train.valid_metric`` is its objective."""

    space: Space = made_setting(dict, Mark.RESOLVED)
    """Setting to its values: {choice: [..]}, {uniform: [low, high]}, {loguniform: [low, high]}
    or {quniform: [low, high, step]}. ``tune --space FILE`` fills it in."""
    engine: Engine = setting("optuna", Mark.CONTENT)
    """optuna: its TPE sampler, which learns from finished trials; grid: every combination."""
    scheduler: Scheduler = setting("asha", Mark.CONTENT)
    """Early stopping of poor trials, by their valid metric after each epoch."""
    grace_epochs: int = setting(2, Mark.CONTENT)
    """Epochs that every trial gets; the first rung of asha."""
    reduction_factor: int = setting(3, Mark.CONTENT)
    """asha: the best 1/reduction_factor of the trials go on from a rung to one this many times as
    far."""
    max_trials: int | None = setting(None, Mark.BUDGET)
    """Trials of the whole search; null: all combinations, where they can be counted."""
    max_minutes: float | None = setting(None, Mark.BUDGET)
    """Time of the whole search, interruptions not counted; null: no limit."""
    target: float | None = setting(None, Mark.BUDGET)
    """The search ends once a trial reaches this valid metric."""
    num_workers: int = setting(1, Mark.AT_ONCE)
    """Processes that train a trial together; takes the place of train.num_workers."""
    max_concurrent: int | None = setting(None, Mark.AT_ONCE)
    """Trials at a time; null: as many as the cluster has room for. grid and random without a
    scheduler try the same whatever it is; optuna, asha and median go by what has ended so far, so
    only a search of one trial at a time can be repeated."""
    seed: int = setting(2020, Mark.CONTENT)
    """Seed of the draws; train.seed is that of the trials."""

    def __post_init__(self) -> None:
        at_least("tune", self, 1, "grace_epochs", "max_trials", "num_workers", "max_concurrent")
        at_least("tune", self, 2, "reduction_factor")
        at_least("tune", self, 0, "seed")
        require(
            self.max_minutes is None or self.max_minutes > 0,
            f"tune.max_minutes={self.max_minutes} must be positive; null sets no limit",
        )
