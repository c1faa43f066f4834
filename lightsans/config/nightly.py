"""Settings of the nightly run."""

import re
from dataclasses import dataclass, field
from typing import Literal

from lightsans.config.checks import CENTURY_DAYS, at_least, at_most, fraction, require
from lightsans.config.kinds import BASELINES
from lightsans.config.marks import Mark, made_setting, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class NightlyTrainConfig:
    """Policy of training: which nights train, and which keep the published model."""

    every_nights: int = setting(1, Mark.NO_EFFECT)
    """Days between the log that the published model was trained on and the night's date from which
    on a night trains; 1 trains every night. On other nights the published model scores today's
    histories, and users of whom nothing changed keep their lists."""
    start: Literal["scratch", "warm"] = setting("scratch", Mark.NO_EFFECT)
    """Also written ``from``. warm: training begins with the weights of the judged model of the
    night before, which has not learnt anything that it will be tested on."""
    if_metric_drops: float | None = setting(0.03, Mark.NO_EFFECT)
    """Train when nightly.metric of the published model on tonight's test items is lower than on
    those of its training by more than this share; null does not look."""
    if_vocabulary_grows: float | None = setting(0.05, Mark.NO_EFFECT)
    """Train when more items are new to the published model than this share of those that it knows;
    null does not look."""

    @property
    def goes_by_earlier(self) -> bool:
        """Whether what a night makes depends on the model of the night before."""
        return (self.every_nights, self.start) != (1, "scratch")

    def __post_init__(self) -> None:
        at_least("nightly.train", self, 1, "every_nights")
        fraction("nightly.train", self, "if_metric_drops", "if_vocabulary_grows")


@dataclass(frozen=True, kw_only=True, slots=True)
class NightlyConfig:
    """Conditions of publishing a nightly run, and the lease that keeps two runs apart."""

    metric: Literal["ndcg@10", "hit@10", "mrr@10"] = setting("ndcg@10", Mark.NO_EFFECT)
    """Metric by which models are compared, on the test items of the night's own dataset."""
    beat_baselines: tuple[str, ...] = setting(("popular", "successor"), Mark.NO_EFFECT)
    """Baselines that the model must be better than, with 95 % confidence: popular,
    popular_recent, successor; [] for none."""
    max_relative_drop: float | None = setting(0.05, Mark.NO_EFFECT)
    """Largest drop below the published model, as a share; null does not compare."""
    gate: Literal["lenient", "strict"] = setting("lenient", Mark.NO_EFFECT)
    """lenient: a night is refused where the whole 95 % interval of the drop lies beyond
    max_relative_drop. strict: where any of it does."""
    floors: dict[str, float] = made_setting(dict, Mark.NO_EFFECT)
    """Least values of test metrics, such as {ndcg@10: 0.03, hit@10: 0.08}."""
    min_users: int = setting(1, Mark.NO_EFFECT)
    """Least number of users in the dataset."""
    max_user_drop: float | None = setting(0.5, Mark.NO_EFFECT)
    """Largest drop of the number of users below the published run, as a share; null does not
    compare."""
    max_age: float | None = setting(None, Mark.NO_EFFECT)
    """Most days between the newest row of the log and the night's date; null does not look. An
    older one means that the log has stopped arriving."""
    catch_up: int = setting(7, Mark.NO_EFFECT)
    """Missed nights, the newest ones, that ``nightly --catch-up`` runs; older ones are passed over.
    """
    incremental: bool = setting(False, Mark.NO_EFFECT)
    """Make the night's dataset from the published run's: only files that this one does not list are
    read, and items keep their ids. Needs logs that are added to, file by file, never changed."""
    titles: str | None = setting(None, Mark.NO_EFFECT, Mark.PATH)
    """Item table with titles, for the lists of a night's page; null takes score.item_table."""
    title_column: str | None = setting(None, Mark.NO_EFFECT)
    """Column of titles; null takes the first whose name has title or name in it."""
    page_users: int = setting(5, Mark.NO_EFFECT)
    """Users whose lists before and after a night's page shows, by their ids; 0 shows nobody."""
    metrics_file: str | None = setting(None, Mark.NO_EFFECT, Mark.PATH)
    """File for Prometheus' textfile collector, such as /var/lib/node_exporter/lightsans.prom; it is
    replaced at the end of every night. null writes none."""
    notify_url: str | None = setting(None, Mark.NO_EFFECT)
    """Address that is told how every night ended, by a JSON POST. A part that is a secret is given
    as ${NAME}, the name of an environment variable. null tells nobody."""
    notify_token: str | None = setting(None, Mark.NO_EFFECT)
    """Name of the environment variable with the token that is sent along, as a bearer's."""
    clean: bool = setting(False, Mark.NO_EFFECT)
    """Remove after each night what section ``clean`` does not keep, so that the root stays bounded.
    """
    train: NightlyTrainConfig = field(default_factory=NightlyTrainConfig)
    refit: Literal["full", "continue", "none"] = setting("full", Mark.NO_EFFECT)
    """Once the gate has passed the model that was tested, train what is published on everything,
    held-out interactions and the newest items included. full: from the start, for the number of
    epochs that valid chose. continue: go on from the tested model for continue_epochs. none:
    publish the tested model, which has not seen what it was tested on."""
    continue_epochs: int = setting(2, Mark.NO_EFFECT)
    """Epochs on everything of refit: continue."""
    min_refit_overlap: float | None = setting(0.1, Mark.NO_EFFECT)
    """Least mean share of a user's list that the refit and the tested model have in common, over a
    sample of 10,000 users; null does not compare."""
    max_coverage_drop: float | None = setting(0.5, Mark.NO_EFFECT)
    """Largest drop of the number of different items in the lists of these users, from the tested
    model to the refit, as a share; null does not compare."""
    lease_s: float = setting(180.0, Mark.NO_EFFECT)
    """Seconds after which a run that died no longer keeps others out."""

    def __post_init__(self) -> None:
        fraction("nightly", self, "max_relative_drop", "max_user_drop")
        fraction("nightly", self, "min_refit_overlap", "max_coverage_drop")
        at_least("nightly", self, 1, "min_users", "lease_s", "continue_epochs")
        at_least("nightly", self, 0, "max_age", "catch_up", "page_users")
        url, token = self.notify_url, self.notify_token
        require(
            url is None or url.startswith(("http://", "https://")),
            "nightly.notify_url must start with http:// or https://; only parts after that may be "
            "${NAME}",
        )
        require(
            token is None or re.fullmatch(r"[A-Za-z_]\w*", token) is not None,
            "nightly.notify_token is the name of an environment variable that holds the token, "
            "such as LIGHTSANS_NOTIFY_TOKEN; the token itself belongs into no setting",
        )
        require(
            token is None or url is not None,
            f"nightly.notify_token={token} has no effect without nightly.notify_url",
        )
        at_most("nightly", self, 30 * 24 * 3600, "lease_s")
        at_most("nightly", self, CENTURY_DAYS, "catch_up")
        unknown = set(self.beat_baselines) - set(BASELINES)
        require(
            not unknown,
            f"nightly.beat_baselines={list(self.beat_baselines)}; expected some of "
            f"{', '.join(BASELINES)}, or []",
        )
