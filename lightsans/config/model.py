"""Settings of the architecture and its loss."""

from dataclasses import dataclass
from typing import Literal

from lightsans.config.checks import at_least, fraction, require
from lightsans.config.kinds import ATTENTION, LOSSES, SAMPLINGS, Attention, LossSetting, Sampling
from lightsans.config.marks import Mark, setting

Activation = Literal["gelu", "relu", "swish", "tanh", "sigmoid"]
InterestDecay = Literal["none", "position", "time"]
Positions = Literal["absolute", "relative", "fading"]
PositionScaling = Literal["twice", "once", "learned"]
Norm = Literal["layer", "rms"]
NormPlacement = Literal["post", "pre"]
Gate = Literal["none", "residual", "pointwise"]
Scores = Literal["product", "cosine"]
Gaps = Literal["none", "input", "request"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Architecture of one LightSANs model; names and defaults follow RecBole's LightSANs."""

    attention: Attention = setting("causal", Mark.CONTENT, Mark.SEARCHABLE)
    """causal trains every prefix in one pass; masked is the paper, one prefix at a time; reference
    is RecBole's released code, number for number."""
    max_seq_len: int = setting(50, Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE)
    """Items of a history that the model reads; the newest are kept."""
    k_interests: int = setting(5, Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE)
    """Latent interests per sequence; the authors use about a tenth of max_seq_len."""
    n_layers: int = setting(2, Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE)
    n_heads: int = setting(2, Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE)
    hidden_size: int = setting(64, Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE)
    inner_size: int = setting(256, Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE)
    """Width of the feed-forward layers."""
    hidden_dropout_prob: float = setting(0.5, Mark.CONTENT, Mark.SEARCHABLE)
    attn_dropout_prob: float = setting(0.5, Mark.CONTENT, Mark.SEARCHABLE)
    hidden_act: Activation = setting("gelu", Mark.CONTENT, Mark.SEARCHABLE)
    layer_norm_eps: float = setting(1e-12, Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE)
    initializer_range: float = setting(0.02, Mark.CONTENT, Mark.SEARCHABLE)
    """Standard deviation of the initial weights."""
    loss_type: LossSetting = setting("CE", Mark.CONTENT, Mark.SEARCHABLE)
    """CE: softmax over all items. BPR: one uniformly drawn negative per target. sampled_softmax:
    CE estimated from num_negatives items. gBCE: binary cross-entropy without its overconfidence.
    auto: CE, or sampled_softmax where the catalogue is too large for the device."""
    num_negatives: int = setting(1024, Mark.CONTENT, Mark.SEARCHABLE)
    """Items that all targets of a step are compared with (sampled_softmax and gBCE)."""
    negative_sampling: Sampling = setting("uniform", Mark.CONTENT, Mark.SEARCHABLE)
    """log_uniform: by rank of popularity; in_batch: the targets of the step (sampled_softmax)."""
    gbce_t: float = setting(0.75, Mark.CONTENT, Mark.SEARCHABLE)
    """gBCE's calibration: 0 is plain binary cross-entropy, 1 removes its bias altogether."""
    interest_decay: InterestDecay = setting(
        "none", Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE, Mark.LATER
    )
    """position: interests are means that fade with age, each at a learned rate of its own, and the
    age of an item is the number of items since; time: its age grows by the logarithm of the gaps
    between them as well."""
    positions: Positions = setting(
        "absolute", Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE, Mark.LATER
    )
    """relative: how much one position reads from another depends on their distance alone; absolute:
    on both, as in the paper; fading: on the time or items between, as a mean that fades: no L x L
    matrix is needed, for long histories."""
    position_scaling: PositionScaling = setting(
        "twice", Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE, Mark.LATER
    )
    """Scaling of absolute position logits: twice, as in the released code, where they start almost
    equal; once; or learned, by head, from once."""
    position_dropout_prob: float = setting(0.0, Mark.CONTENT, Mark.SEARCHABLE, Mark.LATER)
    """Dropout of the weights with which positions read from each other. These are the same for all
    sequences, so training drops the same ones for all sequences of a step."""
    norm: Norm = setting("layer", Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE, Mark.LATER)
    """layer: LayerNorm. rms: RMSNorm, which neither centres nor shifts."""
    norm_placement: NormPlacement = setting(
        "post", Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE, Mark.LATER
    )
    """post: attention and feed-forward are added to their input, and the sum is normalised. pre:
    their input is normalised, the sum is not; one more norm follows the last layer."""
    gate: Gate = setting("none", Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE, Mark.LATER)
    """residual: what attention and feed-forward add is multiplied by a sigmoid of their input, as
    in LiGR. pointwise: what attention has read is normalised and multiplied by a SiLU of its input,
    as in HSTU."""
    scores: Scores = setting("product", Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE, Mark.LATER)
    """cosine: the cosine of the user's and the item's vector, divided by a temperature; so an
    item's score does not grow with the length of its vector."""
    temperature: float = setting(0.05, Mark.CONTENT, Mark.SEARCHABLE, Mark.LATER)
    """Temperature of cosine scores before training, which learns it."""
    label_smoothing: float = setting(0.0, Mark.CONTENT, Mark.SEARCHABLE, Mark.LATER)
    """Share of a target that is spread over all items (CE only)."""
    gaps: Gaps = setting("none", Mark.CONTENT, Mark.WEIGHTS, Mark.SEARCHABLE, Mark.LATER)
    """input: the model reads, as a class that doubles in width, the time between each item and the
    one before it; request: also the time from the newest item to the moment of the request."""

    def __post_init__(self) -> None:
        at_least("model", self, 1, "max_seq_len", "k_interests", "n_layers", "n_heads")
        at_least("model", self, 1, "hidden_size", "inner_size")
        fraction("model", self, "hidden_dropout_prob", "attn_dropout_prob")
        fraction("model", self, "position_dropout_prob", "label_smoothing")
        at_least("model", self, 1, "num_negatives")
        require(0 <= self.gbce_t <= 1, f"model.gbce_t={self.gbce_t} is not in [0, 1]")
        require(
            self.loss_type == "auto"
            or not LOSSES[self.loss_type].needs_uniform
            or SAMPLINGS[self.negative_sampling].is_uniform,
            f"model.loss_type={self.loss_type} needs model.negative_sampling=uniform, found "
            f"{self.negative_sampling}: its calibration assumes that all items are equally likely",
        )
        require(
            self.label_smoothing == 0 or self.loss_type == "CE",
            f"model.label_smoothing={self.label_smoothing} needs model.loss_type=CE, found "
            f"{self.loss_type}: other losses do not compare a target with all items",
        )
        require(self.temperature > 0, f"model.temperature={self.temperature} must be positive")
        self._check_variants()
        require(self.layer_norm_eps > 0, "model.layer_norm_eps must be positive")
        require(self.initializer_range > 0, "model.initializer_range must be positive")
        require(
            self.hidden_size % self.n_heads == 0,
            f"model.hidden_size={self.hidden_size} is not divisible by "
            f"model.n_heads={self.n_heads}; change either one",
        )

    @property
    def loss_is_chosen(self) -> bool:
        """Whether the loss follows from the number of items and the device: see `auto_loss`."""
        return self.loss_type == "auto"

    @property
    def has_position_vectors(self) -> bool:
        """Whether positions have learned vectors."""
        return self.positions == "absolute"

    @property
    def has_fading_positions(self) -> bool:
        """Whether positions read means that fade with age."""
        return self.positions == "fading"

    @property
    def has_cosine_scores(self) -> bool:
        """Whether item and user vectors are compared by their directions alone."""
        return self.scores == "cosine"

    @property
    def reads_times(self) -> bool:
        """Whether the model reads when items were met."""
        return self.reads_gaps or self.fades_by_time

    @property
    def reads_gaps(self) -> bool:
        """Whether the gap before an item is part of its input."""
        return self.gaps != "none"

    @property
    def fades_by_time(self) -> bool:
        """Whether the age of an item is read off a clock, not off its position alone."""
        return self.interest_decay == "time"

    @property
    def reads_now(self) -> bool:
        """Whether the model reads the moment for which it recommends."""
        return self.gaps == "request"

    def _check_variants(self) -> None:
        """Refuse variants of the attention where it is defined by other code, or has no use."""
        variants = {
            "interest_decay": (self.interest_decay, "none"),
            "positions": (self.positions, "absolute"),
            "position_scaling": (self.position_scaling, "twice"),
            "position_dropout_prob": (self.position_dropout_prob, 0.0),
            "norm": (self.norm, "layer"),
            "norm_placement": (self.norm_placement, "post"),
            "gate": (self.gate, "none"),
            "scores": (self.scores, "product"),
            "gaps": (self.gaps, "none"),
        }
        for name, (value, released) in variants.items():
            require(
                value == released or not ATTENTION[self.attention].is_recbole,
                f"model.{name}={value} does not go with model.attention={self.attention}, which is "
                f"the released code number for number; set model.{name} to {released}, or "
                "model.attention to causal",
            )
        require(
            self.has_position_vectors or self.position_scaling == "twice",
            f"model.position_scaling={self.position_scaling} has no effect with "
            f"model.positions={self.positions}, whose logits are learned as they are; leave it out",
        )
        require(
            not self.has_fading_positions or self.position_dropout_prob == 0,
            f"model.position_dropout_prob={self.position_dropout_prob} has no effect with "
            "model.positions=fading, which has no matrix of weights; leave it out",
        )
