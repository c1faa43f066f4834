"""Every setting of the pipeline, as frozen dataclasses.

The names under each class are those of the YAML file (``model.k_interests`` is
``RunConfig.model.k_interests``). Classes check themselves on construction and raise `ConfigError`;
reading YAML and ``--set`` into them is the work of `lightsans.config.file`.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from lightsans.errors import ConfigError

Attention = Literal["causal", "masked", "reference"]
Activation = Literal["gelu", "relu", "swish", "tanh", "sigmoid"]
IdType = Literal["auto", "string", "int64"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _at_least(section: str, config: object, minimum: float, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value < minimum:
            raise ConfigError(f"{section}.{name}={value} is too small; the least is {minimum}")


def _fraction(section: str, config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value < 1:
            raise ConfigError(f"{section}.{name}={value} is not in [0, 1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageConfig:
    """How ``s3://`` is reached. Unset values come from the usual AWS variables and files.

    For ``gs://`` only ``anonymous`` means something; credentials are Google's defaults.

    There is no field for keys: credentials belong into the environment, a profile or a role, never
    into a file that is copied beside every result.
    """

    endpoint_url: str | None = None
    """Address of an S3-compatible server, such as http://127.0.0.1:8333; null for AWS."""
    profile: str | None = None
    """Name of a profile in ~/.aws/config."""
    anonymous: bool = False
    """Read public buckets without credentials."""
    max_attempts: int = 10
    """How often a request is made that fails for a passing reason (busy, unreachable, cut off),
    with pauses that grow to 20 s. No effect on results."""
    timeout_s: float = 60.0
    """Seconds without a byte after which an attempt has failed. No effect on results."""

    def __post_init__(self) -> None:
        _at_least("storage", self, 1, "max_attempts")
        _at_least("storage", self, 0.1, "timeout_s")
        url = self.endpoint_url
        _require(
            url is None or url.startswith(("http://", "https://")),
            f"storage.endpoint_url={url!r} must start with http:// or https://",
        )
        _require(
            url is None or "@" not in url,
            "storage.endpoint_url must not contain credentials; use AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or storage.profile",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnsConfig:
    """Which columns of the log are read: names, or positions from 0 where there is no header."""

    user: str | int = "user_id"
    item: str | int = "item_id"
    timestamp: str | int = "timestamp"
    rating: str | int | None = "rating"
    """Null when there is none. A column that is absent is only an error when min_rating is set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TemporalConfig:
    """Where ``split: temporal`` cuts: two times, or two shares of the rows."""

    valid_from: str | None = None
    """ISO date or time from which on interactions are for validation."""
    test_from: str | None = None
    """ISO date or time from which on interactions are for testing."""
    valid_fraction: float | None = None
    """Share of all interactions that are for validation, at most; cut at a whole second."""
    test_fraction: float | None = None
    """Share of all interactions, the newest, that are for testing, at most."""

    def __post_init__(self) -> None:
        _fraction("data.temporal", self, "valid_fraction", "test_fraction")
        times = [self.valid_from, self.test_from]
        shares = [self.valid_fraction, self.test_fraction]
        given = [value is not None for value in (*times, *shares)]
        _require(
            given in ([False] * 4, [True, True, False, False], [False, False, True, True]),
            "data.temporal needs both valid_from and test_from, or both valid_fraction and "
            f"test_fraction, and not all; found {', '.join(map(str, (*times, *shares)))}",
        )
        _require(
            shares[0] is None or shares[1] is None or 0 < shares[0] + shares[1] < 1,
            f"data.temporal leaves nothing to split: valid_fraction={shares[0]} and "
            f"test_fraction={shares[1]} add up to 0, or to 1 and more",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """What to read and which interactions to train on."""

    input: tuple[str, ...] = ()
    """Files, directories or globs; local or s3://. Their order breaks ties between timestamps."""
    format: Literal["auto", "parquet", "csv", "jsonl", "inter"] = "auto"
    """auto goes by the file name; .gz, .bz2, .zst, .lz4 endings are decompressed."""
    separator: str = ","
    """Between the fields of a csv line; "\\t" and "::" work. RecBole's .inter is always a tab."""
    header: bool = True
    """False: columns are given by position, e.g. columns: {user: 0, item: 1, timestamp: 3}."""
    quote_char: str | None = '"'
    """Character around csv values that contain the separator; null when quotes are plain text."""
    newlines_in_values: bool = False
    """True when quoted csv values span lines. Such files cannot be read in pieces."""
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    user_id_type: IdType = "auto"
    """auto keeps parquet's and jsonl's own type; csv and .inter ids are strings ("007" stays)."""
    item_id_type: IdType = "auto"
    max_id_bytes: int = 1024
    """Longer ids are refused: they are nearly always a broken line."""
    timestamp_unit: Literal["s", "ms", "us", "ns"] = "s"
    """Unit of numeric timestamps. Text and datetime columns carry their own."""
    timezone: str = "UTC"
    """Time zone of timestamps that name none, such as Europe/Berlin. Of a time that clocks show
    twice, the first is meant."""
    as_of: str | None = None
    """Ignore interactions from this moment on (ISO date or time): backfills, idempotent nights."""
    exclude_users: str | None = None
    """A text file with one user id a line, to be left out entirely (erasure requests)."""
    min_rating: float | None = None
    """Interactions rated lower are not learnt from, but still count as seen."""
    min_user_interactions: int = 1
    """k-core: users with fewer are not trained on (they are still scored)."""
    min_item_interactions: int = 1
    """k-core: items with fewer do not enter the vocabulary."""
    dedupe: Literal["none", "first", "last"] = "none"
    """Which of a user's interactions with the same item to keep."""
    split: Literal["leave_one_out", "temporal"] = "leave_one_out"
    """leave_one_out: each user's last interaction is test, the one before valid, the rest train.
    temporal: by time; later rows do not influence vocabulary, counts or k-core."""
    temporal: TemporalConfig = field(default_factory=TemporalConfig)
    keep_last: int | None = None
    """Sequences keep only a user's newest so many items. Counts and k-core see all interactions,
    and what is dropped still counts as seen."""
    keep_since: str | None = None
    """Sequences keep only items from this moment on (ISO date or time); like keep_last."""
    base: str | None = None
    """Id of a dataset to add to: only files that it does not list are read, and items keep their
    ids. ``preprocess --base ID`` sets it."""
    keep_reject_values: bool = False
    """rejects/ also holds the values of refused rows, not only their positions and reasons."""
    max_reject_fraction: float | None = 0.05
    """Refusing a larger share of the rows is an error; null turns the check off."""
    num_parts: int | None = None
    """Files a dataset is cut into; null chooses by the size of the input. No effect on results."""
    read_unit_bytes: int = 32 * 2**20
    """Largest piece of a text file that one task reads. No effect on results."""

    def __post_init__(self) -> None:
        _at_least("data", self, 1, "min_user_interactions", "min_item_interactions", "num_parts")
        _at_least("data", self, 1, "max_id_bytes", "read_unit_bytes", "keep_last")
        _require(
            self.read_unit_bytes <= 2**30,
            f"data.read_unit_bytes={self.read_unit_bytes} is larger than a task can parse at once; "
            "the most is 1 GiB",
        )
        limit = self.max_reject_fraction
        _require(
            limit is None or 0 <= limit <= 1,
            f"data.max_reject_fraction={limit} is not in [0, 1]; null turns the check off",
        )
        is_cut = self.temporal != TemporalConfig()
        _require(
            is_cut == (self.split == "temporal"),
            "data.split=temporal needs data.temporal, such as {valid_from: 2026-10-01, test_from: "
            "2026-11-01} or {valid_fraction: 0.1, test_fraction: 0.1}"
            if not is_cut
            else f"data.temporal has no effect with data.split={self.split}; set data.split to "
            "temporal",
        )
        _require(self.separator != "", "data.separator is empty; give one or more characters")
        _require(
            self.quote_char is None or len(self.quote_char) == 1,
            f"data.quote_char={self.quote_char!r} is not a single character or null",
        )
        _require(
            not self.newlines_in_values or len(self.separator.encode()) == 1,
            f"data.newlines_in_values needs a separator of one byte; data.separator is "
            f"{self.separator!r}",
        )
        columns = self.columns
        used = [columns.user, columns.item, columns.timestamp, columns.rating]
        named = [c for c in used if c is not None]
        _require(len(set(named)) == len(named), f"data.columns names a column twice: {named}")
        if not self.header:
            by_name = [c for c in named if isinstance(c, str) and not c.isdigit()]
            _require(
                not by_name or by_name == ["rating"],
                f"data.header is false, so data.columns needs positions such as 0; found {by_name}",
            )
        _require(
            self.min_rating is None or columns.rating is not None,
            "data.min_rating is set but data.columns.rating is null; name the rating column",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Architecture of one LightSANs model; names and defaults follow RecBole's LightSANs."""

    attention: Attention = "causal"
    """causal trains every prefix in one pass; masked is the paper, one prefix at a time; reference
    is RecBole's released code, number for number."""
    max_seq_len: int = 50
    """Items of a history that the model reads; the newest are kept."""
    k_interests: int = 5
    """Latent interests per sequence; the authors use about a tenth of max_seq_len."""
    n_layers: int = 2
    n_heads: int = 2
    hidden_size: int = 64
    inner_size: int = 256
    """Width of the feed-forward layers."""
    hidden_dropout_prob: float = 0.5
    attn_dropout_prob: float = 0.5
    hidden_act: Activation = "gelu"
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    """Standard deviation of the initial weights."""
    loss_type: Literal["CE", "BPR", "sampled_softmax", "gBCE", "auto"] = "CE"
    """CE: softmax over all items. BPR: one uniformly drawn negative per target. sampled_softmax:
    CE estimated from num_negatives items. gBCE: binary cross-entropy without its overconfidence.
    auto: CE, or sampled_softmax where the catalogue is too large for the device."""
    num_negatives: int = 1024
    """Items that all targets of a step are compared with (sampled_softmax and gBCE)."""
    negative_sampling: Literal["uniform", "log_uniform", "in_batch"] = "uniform"
    """log_uniform: by rank of popularity; in_batch: the targets of the step (sampled_softmax)."""
    gbce_t: float = 0.75
    """gBCE's calibration: 0 is plain binary cross-entropy, 1 removes its bias altogether."""

    def __post_init__(self) -> None:
        _at_least("model", self, 1, "max_seq_len", "k_interests", "n_layers", "n_heads")
        _at_least("model", self, 1, "hidden_size", "inner_size")
        _fraction("model", self, "hidden_dropout_prob", "attn_dropout_prob")
        _at_least("model", self, 1, "num_negatives")
        _require(0 <= self.gbce_t <= 1, f"model.gbce_t={self.gbce_t} is not in [0, 1]")
        _require(
            self.loss_type != "gBCE" or self.negative_sampling == "uniform",
            f"model.loss_type=gBCE needs model.negative_sampling=uniform, found "
            f"{self.negative_sampling}: its calibration assumes that all items are equally likely",
        )
        _require(self.layer_norm_eps > 0, "model.layer_norm_eps must be positive")
        _require(self.initializer_range > 0, "model.initializer_range must be positive")
        _require(
            self.hidden_size % self.n_heads == 0,
            f"model.hidden_size={self.hidden_size} is not divisible by "
            f"model.n_heads={self.n_heads}; change either one",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How the model is fitted."""

    num_workers: int | tuple[int, int] = 2
    """Processes that train together (DDP). [least, most]: as many as the cluster has room for, and
    on with fewer while a machine is missing. No effect on results beyond float error."""
    use_gpu: bool = False
    """One GPU per worker."""
    epochs: int = 100
    batch_size: int = 32
    """Over all workers: windows of max_seq_len + 1 items for causal, prefixes for the others."""
    micro_batches: int = 1
    """Pieces that a worker computes its share of a batch in, one after the other: less memory, the
    same step."""
    learning_rate: float = 0.002
    optimizer: Literal["adam", "adamw"] = "adam"
    """adamw takes weight decay from the weights themselves, adam adds it to the gradients."""
    weight_decay: float = 0.0
    """Of weight matrices; biases, layer norms and embeddings are excluded."""
    warmup_epochs: float = 0.0
    """Epochs, or a part of one, over which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine: after the warm-up the learning rate falls to 0, reached with the last of epochs."""
    clip_norm: float | None = None
    """Gradients are scaled down to this global norm; null leaves them as they are."""
    ema_decay: float | None = None
    """The model is a moving average of the weights over the steps, of which this part stays in a
    step: 0.995, for example. Valid measures it, and it is what is kept. Better than the last
    weights at a constant learning rate, no better after cosine. Not with losses that train only
    the items of a step. null: the last weights."""
    seed: int = 2020
    window_stride: int | None = None
    """Distance between the windows of a long history (causal only); null is max_seq_len // 2."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 multiplies matrices in bfloat16 while training (autocast); softmaxes, sums, weights and
    ranking stay in fp32. Faster where the processor or GPU knows bfloat16."""
    compile: bool = False
    """Compile the layers with torch.compile while training: minutes at the start, and faster steps
    afterwards. Without a working compiler training goes on uncompiled, with a warning. No effect on
    results beyond float error."""
    table_precision: Literal["fp32", "bf16"] = "fp32"
    """How item vectors and their optimizer state are kept while training with a sampled loss; bf16
    halves that memory and rounds at random. What is computed with them is fp32 either way."""
    virtual_shards: int = 8
    """Pieces that the order of training is defined over; at least the number of workers."""
    valid_metric: Literal["ndcg@10", "hit@10", "mrr@10"] = "ndcg@10"
    """What early stopping and the choice of the best epoch look at."""
    warm_start: str | None = None
    """A model to begin with, by its id or directory: weights are copied, item rows by raw id; new
    items begin as in any new model. ``train --from`` sets it."""
    refit_epochs: int | None = None
    """Train on all interactions, those for valid and test included, for so many of the epochs;
    nothing is validated. ``train --refit`` sets it."""
    patience: int = 10
    """Epochs without a better valid metric after which training stops; 0 never stops early."""
    eval_batch_size: int = 512
    """Users ranked at once during validation, per worker."""
    max_failures: int = 3
    """How often a run restarts from its last checkpoint when workers are lost. Machines that are
    taken away with notice do not count."""
    checkpoint_steps: int | None = None
    """Steps of an epoch after which a checkpoint is written, beside one after every epoch."""
    checkpoint_minutes: float | None = 5.0
    """Minutes after which a checkpoint is written in the middle of an epoch; null: never."""
    keep_checkpoints: int = 2
    """Newest checkpoints to keep, besides that of the best epoch."""
    collective_timeout_s: int = 600
    """How long workers wait for each other before a run counts as stuck."""
    tape_memory_mb: int | None = None
    """Sequences that a worker holds in memory; what is beyond lies in a file on its disk, of which
    the system keeps in memory what is used. null: all in memory."""
    mlflow_uri: str | None = None
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
        _at_least("train", self, 1, "epochs", "batch_size", "virtual_shards", "micro_batches")
        _at_least("train", self, 1, "checkpoint_steps", "keep_checkpoints", "refit_epochs")
        _at_least("train", self, 1, "collective_timeout_s")
        _at_least("train", self, 0, "weight_decay", "warmup_epochs", "tape_memory_mb")
        _require(
            1 <= self.least_workers <= self.most_workers,
            f"train.num_workers={self.num_workers} must be a number from 1, or [least, most]",
        )
        for name in ("checkpoint_minutes", "clip_norm"):
            value = getattr(self, name)
            _require(
                value is None or value > 0,
                f"train.{name}={value} must be positive; null turns it off",
            )
        _require(
            self.ema_decay is None or 0 < self.ema_decay < 1,
            f"train.ema_decay={self.ema_decay} is not between 0 and 1; null turns it off",
        )
        _require(
            self.warmup_epochs < self.epochs,
            f"train.warmup_epochs={self.warmup_epochs} is not less than train.epochs={self.epochs}",
        )
        _require(
            self.refit_epochs is None or self.refit_epochs <= self.epochs,
            f"train.refit_epochs={self.refit_epochs} is more than train.epochs={self.epochs}, over "
            "which the learning rate is planned",
        )
        _at_least("train", self, 1, "window_stride", "eval_batch_size")
        _at_least("train", self, 0, "patience", "max_failures", "seed")
        _require(
            self.learning_rate > 0, f"train.learning_rate={self.learning_rate} must be positive"
        )
        _require(
            self.virtual_shards >= self.most_workers,
            f"train.virtual_shards={self.virtual_shards} is less than "
            f"train.num_workers={self.most_workers}; raise it (it changes the order of training)",
        )
        _require(
            self.batch_size >= self.virtual_shards,
            f"train.batch_size={self.batch_size} is less than "
            f"train.virtual_shards={self.virtual_shards}; every shard gives at least one "
            "sequence to a batch",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """The protocol of the reported metrics: full ranking over all items."""

    ks: tuple[int, ...] = (5, 10, 20)
    """Cut-offs of hit, recall, precision, ndcg and mrr; 10 is always among them."""
    remove_seen: bool = False
    """Leave the items before the target out of the ranking: true is SASRec's convention, false
    RecBole's."""
    batch_size: int = 512
    """Users ranked at once by a task."""

    def __post_init__(self) -> None:
        _require(bool(self.ks), "evaluate.ks is empty; give at least one cut-off, such as 10")
        _require(min(self.ks) >= 1, f"evaluate.ks={list(self.ks)} has a cut-off below 1")
        _require(10 in self.ks, f"evaluate.ks={list(self.ks)} needs 10, by which models compare")
        _at_least("evaluate", self, 1, "batch_size")


_SCORE_FIGURES = (
    "users",
    "fallback_share",
    "mean_list_length",
    "coverage",
    "never_recommended_share",
    "top_1_percent_share",
    "median_best_score",
)
REPORT_FIGURES = (*_SCORE_FIGURES, *(f"{name}_change" for name in _SCORE_FIGURES), "overlap")
"""Figures of a run report that can be bounded; a change is relative to the run before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreConfig:
    """What the batch-scoring stage writes for each user."""

    k: int = 100
    remove_seen: bool = True
    """Never recommend what the user has already met, filtered interactions included."""
    batch_size: int = 1024
    """Users scored at once by a worker."""
    num_workers: int = 2
    """Most scoring processes at a time. No effect on results."""
    min_workers: int = 1
    """Scoring processes to begin with; more come, up to num_workers, while parts wait. No effect on
    results."""
    use_gpu: bool = False
    users: str | None = None
    """Score only the users of this file: text with one id a line, or a parquet or csv table with
    the column ``data.columns.user``."""
    allow_items: str | None = None
    """A text file with one raw item id a line: nothing else is recommended."""
    deny_items: str | None = None
    """A text file with one raw item id a line: never recommended."""
    item_table: str | None = None
    """A table of items (parquet, csv, .item) with ``data.columns.item`` and eligible_column."""
    eligible_column: str | None = None
    """The boolean column of item_table that says what may be recommended; null values say no."""
    min_score: float | None = None
    """The model's recommendations with a lower score are left out; lists may become shorter."""
    layout: Literal["wide", "long"] = "wide"
    """wide: one row per user with lists. long: one row per recommendation with its rank; users
    without any have no row."""
    partition_by: Literal["source", "rank"] | None = None
    """Write files into directories by this column, named as Hive does (``source=model/``); rank
    needs the long layout."""
    max_users_per_file: int | None = None
    """A part with more users becomes several files; null: one file per part of the dataset."""
    users_per_row_group: int = 8192
    """Users of a row group of the files: what a reader decodes at once."""
    keep_runs: int | None = None
    """Finished runs to keep, the newest; older ones are removed after scoring, save those that are
    or lately were published. null keeps all."""
    warn_below: dict[str, float] = field(default_factory=dict)
    """Least values of figures of the run report, such as {coverage: 0.05, overlap: 0.3}; less is a
    warning."""
    warn_above: dict[str, float] = field(default_factory=dict)
    """Greatest values, such as {fallback_share: 0.2, users_change: 0.5}."""

    def __post_init__(self) -> None:
        _at_least("score", self, 1, "k", "batch_size", "num_workers", "min_workers")
        _at_least("score", self, 1, "max_users_per_file", "users_per_row_group", "keep_runs")
        _require(
            self.min_workers <= self.num_workers,
            f"score.min_workers={self.min_workers} is more than score.num_workers="
            f"{self.num_workers}, which is the most; lower the one or raise the other",
        )
        _require(
            (self.item_table is None) == (self.eligible_column is None),
            f"score.item_table={self.item_table} and score.eligible_column={self.eligible_column} "
            "need each other; set both or neither",
        )
        _require(
            self.partition_by != "rank" or self.layout == "long",
            "score.partition_by=rank needs score.layout=long: a wide row holds all ranks",
        )
        for setting in ("warn_below", "warn_above"):
            unknown = [name for name in getattr(self, setting) if name not in REPORT_FIGURES]
            _require(
                not unknown,
                f"score.{setting} names {', '.join(unknown)}; expected {', '.join(REPORT_FIGURES)}",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourcesConfig:
    """What a cluster that grows on demand may grow to.

    Ray does not say, so it is said here; what then needs more is refused instead of left waiting.
    """

    max_cpus: int | None = None
    """Logical CPUs of all workers when fully grown; null: no more than there are now."""
    max_gpus: int | None = None
    """GPUs of all workers when fully grown; null: no more than there are now."""

    memory_bytes: int | None = None
    """Memory that a Ray started by the command itself may use, its object store included; rows that
    do not fit there spill to disk, and fewer tasks run at a time. null: most of the machine. A
    cluster has its own, ``ray start --memory --object-store-memory``. No effect on results."""

    def __post_init__(self) -> None:
        _at_least("resources", self, 0, "max_cpus", "max_gpus")
        _at_least("resources", self, 2**30, "memory_bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class NightlyConfig:
    """When the nightly run publishes, and how two of them are kept apart."""

    metric: Literal["ndcg@10", "hit@10", "mrr@10"] = "ndcg@10"
    """What models are compared by, on the test items of the night's own dataset."""
    beat_baselines: tuple[str, ...] = ("popular", "successor")
    """Baselines that the model must be better than; [] for none."""
    max_relative_drop: float | None = 0.05
    """How much worse than the published model it may be, as a share; null does not compare."""
    floors: dict[str, float] = field(default_factory=dict)
    """Least values of test metrics, such as {ndcg@10: 0.03, hit@10: 0.08}."""
    min_users: int = 1
    """Least number of users in the dataset."""
    max_user_drop: float | None = 0.5
    """How many users fewer than in the published run there may be, as a share; null does not
    compare."""
    incremental: bool = False
    """Make the night's dataset from the published run's: only files that this one does not list are
    read, and items keep their ids. Needs logs that are added to, file by file, never changed."""
    lease_s: float = 60.0
    """Seconds after which a run that died no longer keeps others out."""

    def __post_init__(self) -> None:
        _fraction("nightly", self, "max_relative_drop", "max_user_drop")
        _at_least("nightly", self, 1, "min_users", "lease_s")
        unknown = set(self.beat_baselines) - {"popular", "successor"}
        _require(
            not unknown,
            f"nightly.beat_baselines={list(self.beat_baselines)}; expected popular, successor, "
            "both or []",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneConfig:
    """How hyper-parameters are searched for; ``train.valid_metric`` is what trials compete for."""

    space: dict[str, dict[str, list[int | float | str | bool | None]]] = field(default_factory=dict)
    """Setting to what it may be: {choice: [..]}, {uniform: [low, high]}, {loguniform: [low, high]}
    or {quniform: [low, high, step]}. ``tune --space FILE`` fills it in."""
    engine: Literal["optuna", "random", "grid"] = "optuna"
    """optuna: its TPE sampler, which learns from finished trials; grid: every combination."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """What ends poor trials early, by their valid metric after each epoch."""
    grace_epochs: int = 2
    """Epochs that every trial gets; the first rung of asha."""
    reduction_factor: int = 3
    """asha: the best 1/reduction_factor of the trials go on from a rung to one this many times as
    far."""
    max_trials: int | None = None
    """Trials of the whole search; null: all combinations, where they can be counted."""
    max_minutes: float | None = None
    """Time of the whole search, interruptions not counted; null: no limit."""
    target: float | None = None
    """The search ends once a trial reaches this valid metric."""
    num_workers: int = 1
    """Processes that train a trial together; takes the place of train.num_workers."""
    max_concurrent: int | None = None
    """Trials at a time; null: as many as the cluster has room for."""
    seed: int = 2020
    """Of the draws; train.seed is that of the trials."""

    def __post_init__(self) -> None:
        _at_least("tune", self, 1, "grace_epochs", "max_trials", "num_workers", "max_concurrent")
        _at_least("tune", self, 2, "reduction_factor")
        _at_least("tune", self, 0, "seed")
        _require(
            self.max_minutes is None or self.max_minutes > 0,
            f"tune.max_minutes={self.max_minutes} must be positive; null sets no limit",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything one run of the pipeline depends on."""

    root: str = "./lightsans-data"
    """Local path, s3://bucket/prefix or gs://bucket/prefix; datasets/, models/, recommendations/
    and reports/ live under it."""
    storage: StorageConfig = field(default_factory=StorageConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    nightly: NightlyConfig = field(default_factory=NightlyConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    profile: str | None = None
    """A file of pipelines/profiles, such as laptop: workers and GPUs that suit a kind of machine.
    Settings in this file and on the command line win over it. No effect on results."""

    def __post_init__(self) -> None:
        _require(self.root != "", "root is empty; give a local path or s3://bucket/prefix")
        window = self.model.max_seq_len
        stride = self.train.window_stride
        _require(
            stride is None or stride <= window,
            f"train.window_stride={stride} is larger than model.max_seq_len={window}: some "
            "interactions would never be trained on",
        )
        loss, attention = self.model.loss_type, self.model.attention
        is_dense = loss == "CE" or (loss == "BPR" and attention == "reference")
        _require(
            self.train.table_precision == "fp32" or not is_dense,
            f"train.table_precision={self.train.table_precision} needs a loss that looks at some "
            f"items only, but model.loss_type={loss} with model.attention={attention} updates "
            "every item in every step; set model.loss_type to sampled_softmax, gBCE or auto",
        )
        metrics = [
            f"{name}@{k}"
            for name in ("hit", "recall", "precision", "ndcg", "mrr")
            for k in self.evaluate.ks
        ]
        unknown = [name for name in self.nightly.floors if name not in metrics]
        _require(
            not unknown,
            f"nightly.floors names {', '.join(unknown)}; evaluate.ks={list(self.evaluate.ks)} "
            f"gives {', '.join(metrics)}",
        )


def to_dict(config: object) -> dict[str, object]:
    """A configuration as plain dicts, lists and scalars: what YAML, JSON and Ray carry."""
    assert dataclasses.is_dataclass(config), config
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
