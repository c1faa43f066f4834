"""`Recommender`: from a data frame of interactions to recommendations, without files and YAML."""

import hashlib
import io
import json
import logging
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lightsans.config import RunConfig, StorageConfig, to_dict
from lightsans.config.data import ColumnsConfig, DataConfig
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.errors import ConfigError, NotFoundError
from lightsans.in_process.engine import Engine, LocalEngine, one_thread
from lightsans.in_process.frames import Frame, Library, library_of, to_frame, to_ids, to_table
from lightsans.in_process.requests import maker_at, require_length
from lightsans.in_process.rows import in_pieces, long_similar, places_of
from lightsans.in_process.saved import FORMAT_VERSION, RECORD, SavedRecommender, read_saved
from lightsans.in_process.settings import config_of
from lightsans.in_process.shared_directory import SharedDirectory
from lightsans.lists.feature_table import item_columns
from lightsans.model.network import LightSANs
from lightsans.reading.columns import log_columns
from lightsans.reading.input_files import WHERE
from lightsans.recommendations.beside import read_beside
from lightsans.recommendations.item_choice import ItemChoice, read_item_choice
from lightsans.recommendations.list_maker import ListMaker
from lightsans.recommendations.reader import wide_schema
from lightsans.recommendations.similar_items import SimilarItems
from lightsans.recommendations.tables import to_long
from lightsans.reports.evaluation_figures import EvaluationFigures
from lightsans.stages.calibration import Calibration, calibrate
from lightsans.stages.computed_columns import ComputedColumns, recommend_with
from lightsans.stages.list_maker import load_list_maker
from lightsans.stages.seen_rows import SeenRows
from lightsans.stages.window import count_here
from lightsans.storage import model_files as files
from lightsans.storage.conditional_writes import write_if_unchanged
from lightsans.storage.listing import list_files
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest, JudgedModel, ModelManifest
from lightsans.storage.manifests import require_manifest
from lightsans.storage.parts import sequence_parts
from lightsans.storage.records import to_json
from lightsans.storage.schemas import id_type

_log = logging.getLogger("lightsans")

_USERS_AT_ONCE, _ITEMS_AT_ONCE = 1024, 1024


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A dataset and a model of it, and what was loaded of them."""

    config: RunConfig
    dataset: Location
    model: Location
    manifest: DatasetManifest
    users: pa.Table
    """``user_id``, ``item_ids`` and ``also_seen`` of every user, by rising bucket."""
    judged: JudgedModel | None
    """The model that was judged by held-out items, where this one is its refit."""

    @property
    def tested(self) -> tuple[Location, Location]:
        """Dataset and model with held-out items."""
        if self.judged is None:
            return self.dataset, self.model
        judged = self.judged
        return self.dataset.parent / judged.dataset_id, self.model.parent / judged.model_id


class Recommender:
    """Model of a frame of interactions: recommends, evaluates and finds similar items.

    Args:
        engine: Who makes datasets and models; this process unless given. ``pipelines`` has one
            that uses Ray.
        settings: Settings of the configuration. A section as a dict, ``model={"k_interests": 10}``,
            or a setting by its last name where no other section has it, ``epochs=5``; ``user``,
            ``item``, ``timestamp``, ``rating`` and ``event`` name the columns. Without ``root``
            everything lies in a temporary directory that goes when this object does.

    Raises:
        ConfigError: A setting is unknown or wrong.
    """

    def __init__(self, *, engine: Engine | None = None, **settings: Any) -> None:
        self.config = config_of(settings)
        self.library: Library = "arrow"
        """Library of the frames that are given back: that of the fitted one."""
        self._engine: Engine = LocalEngine() if engine is None else engine
        if "root" not in settings:
            self._scratch = SharedDirectory()
            self.config = replace(self.config, root=str(self._scratch.path / "root"))
        self._fitted: _Fitted | None = None
        self._makers: dict[int, ListMaker] = {}
        self._calibration: Calibration | None = None

    def fit(self, frame: Frame, items: Frame | None = None, *, refit: bool = False) -> Self:
        """Learn from interactions: a row each, with user, item and time.

        Rows of one user and time count in the order of the frame. Valid and test items are held
        out, as in the pipeline; recommendations go by whole histories.

        Args:
            frame: A frame of pandas, Polars or Arrow, or whatever has ``__arrow_c_stream__``.
            items: A frame with a row for each item, with the columns that ``item_features`` names.
            refit: Recommend by another model, which learns the held-out items too, for the epochs
                that were best for the first one; `evaluate` and ``calibration`` go by that one.

        Raises:
            ConfigError: ``split`` is none, and ``refit_epochs`` is not given; or one of ``items``
                and ``item_features`` is missing.
            InputError: A column is missing, or too much of it unreadable.
            TrainingError: The loss is not finite.
        """
        table, names = to_table(frame, log_columns(self.config.data))
        log = self._write_log(table)
        roles = [name for name in names if not name.startswith(WHERE)]
        columns = ColumnsConfig(**{role: names[role] for role in roles})
        data = replace(self.config.data, input=(log.uri,), format="parquet", columns=columns)
        data = replace(data, item_table=self._write_items(items, data))
        config = replace(self.config, data=data)
        dataset_id = self._engine.make_dataset(config)
        model_id = self._engine.train(config, dataset_id)
        if refit:
            dataset_id, model_id = self._engine.refit(config, dataset_id, model_id)
        self._load(config, dataset_id, model_id)
        self.library = library_of(frame)
        return self

    def recommend(self, users: Any = None, k: int = 10, now: str | datetime | None = None) -> Frame:
        """The best items of users, a row each: user_id, rank, item_id, score and source.

        ``score.because``, ``probability``, ``buy_again``, ``item_columns`` and ``user_columns`` add
        columns, as in a run.

        Args:
            users: One raw id or many; None for all users of the log.
            k: Length of the lists. Users may have fewer, and those of whom the model knows nothing
                get popular items: ``source`` says so.
            now: Moment of the request, for a model that reads it (``gaps="request"``) and no other:
                ``as_of``, or the newest time of the log, unless given.

        Raises:
            ConfigError: ``k`` is below 1, or ``now`` is no time, not read by the model, or before
                the newest item of a user.
            NotFoundError: A user is not in the log.
            InputError: The ids are of another type than those of the log.
        """
        fitted = self._require()
        require_length(k, "recommend")
        if users is None:
            places = np.arange(fitted.users.num_rows)
        else:
            known = fitted.users["user_id"]
            places = places_of(to_ids(users, known.type, "recommend(users=...)"), known, "user")
        # In the order of the dataset, each once, and then in the order that was asked for.
        distinct, order = np.unique(places, return_inverse=True)
        maker, schema = self._maker(k), wide_schema(fitted.manifest)
        maker = maker_at(maker, now, fitted.config.data.timezone, fitted.users, distinct)
        pieces = in_pieces(distinct, _USERS_AT_ONCE)
        made = [self._lists(maker, fitted.users.take(pa.array(piece)), schema) for piece in pieces]
        wide = pa.concat_tables(made)
        beside = read_beside(self.config)
        of_items = {*self.config.score.item_columns}
        of_items |= {field.name for field in self._asked().fields(schema)}
        if beside is not None:
            wide = beside.extend(wide)
        long = to_long(wide.take(pa.array(order)).combine_chunks(), of_items)
        return to_frame(long, self.library)

    def similar(self, items: Any = None, k: int = 10) -> Frame:
        """The nearest items of items, a row each: item_id, rank, similar_item_id and score.

        Args:
            items: One raw id or many; None for all items that the model knows.
            k: Length of the lists.

        Raises:
            ConfigError: ``k`` is below 1.
            NotFoundError: The model does not know an item.
            InputError: The ids are of another type than those of the log.
        """
        fitted, config = self._require(), self.config
        require_length(k, "similar")
        known = load_vocabulary(fitted.model)
        ids = np.arange(1, known.num_items + 1)
        if items is not None:
            raw = known.raw_item_ids
            ids = places_of(to_ids(items, raw.type, "similar(items=...)"), raw, "item") + 1
        table_VD = LightSANs.from_pretrained(fitted.model).item_table()
        choice = self._choice(config)
        nearest = SimilarItems.chosen(table_VD, known, config.similar.measure, choice)
        made = [
            long_similar(nearest.lists_of(torch.from_numpy(piece), k))
            for piece in in_pieces(ids, _ITEMS_AT_ONCE)
        ]
        return to_frame(pa.concat_tables(made), self.library)

    def evaluate(self) -> EvaluationFigures:
        """Rank every held-out item among all items, by the model and by baselines.

        ``metrics["model"]["test"]["ndcg@10"]`` is a value, ``intervals`` has its ends, and
        ``differences`` the model's lead over each baseline (docs/evaluation.md).

        Raises:
            ConfigError: Nothing is held out, or ``refit_epochs`` has let the model learn it.
        """
        fitted = self._require()
        dataset, model = fitted.tested
        return self._engine.evaluate(fitted.config, dataset.name, model.name)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The learning curve: loss, valid metrics and seconds of every epoch."""
        rows: list[dict[str, Any]] = json.loads(
            (self._require().model / files.HISTORY).read_bytes()
        )
        return rows

    def save(self, directory: str) -> None:
        """Write model and histories into a directory, local or of a store, for `load`.

        It holds ``datasets/`` and ``models/`` as the root of a pipeline does, without the log.
        """
        fitted = self._require()
        target = locate(str(directory), self.config.storage)
        (target / RECORD).delete()  # while its parts are replaced, there is nothing to load
        sources = (fitted.dataset, fitted.model, *fitted.tested)
        for source in {each.uri: each for each in sources}.values():
            below = target / source.parent.name / source.name
            if below.uri == source.uri:
                continue
            for file in list_files(source.uri, self.config.storage):
                name = file.location.uri.removeprefix(source.uri).lstrip("/")
                if not name.startswith("rejects/"):
                    (below / name).write_bytes(file.location.read_bytes())
        record = SavedRecommender(
            format_version=FORMAT_VERSION,
            dataset_id=fitted.dataset.name,
            model_id=fitted.model.name,
            library=self.library,
            config=to_dict(replace(self.config, root=RunConfig().root)),
        )
        (target / RECORD).write_json(to_json(record))

    @classmethod
    def load(
        cls, directory: str, *, engine: Engine | None = None, storage: StorageConfig | None = None
    ) -> "Recommender":
        """Read what `save` has written.

        Args:
            directory: Local, or the address of a store.
            engine: Who evaluates and fits; this process unless given.
            storage: How the store is reached; None for the defaults.

        Raises:
            NotFoundError: There is nothing of the kind.
            InputError: A file is damaged, or of another version.
        """
        place = locate(str(directory), storage or StorageConfig())
        record, saved = read_saved(place)
        loaded = cls(engine=engine)
        saved = replace(saved, storage=storage or StorageConfig())
        loaded.config, loaded.library = replace(saved, root=loaded.config.root), record.library
        config = replace(saved, root=place.uri)
        loaded._load(config, record.dataset_id, record.model_id)
        return loaded

    def __repr__(self) -> str:
        if self._fitted is None:
            return "Recommender(not fitted)"
        manifest = self._fitted.manifest
        return f"Recommender({manifest.users:,} users, {manifest.items:,} items)"

    def _write_items(self, items: Frame | None, data: DataConfig) -> str | None:
        """The frame of items as a file; None where no features are asked for."""
        columns = data.item_features.columns
        if (items is None) != (not columns):
            raise ConfigError(
                f"fit(items=...) and the setting item_features={list(columns)} need each other; "
                "give both or neither"
            )
        if items is None:
            return None
        table, _ = to_table(items, item_columns(data))
        return self._write_log(table).uri

    def _write_log(self, table: pa.Table) -> Location:
        """The log as a file that is named after its content."""
        file = io.BytesIO()
        pq.write_table(table, file, compression="zstd", compression_level=1)
        content = file.getvalue()
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.parquet"
        log = locate(self.config.root, self.config.storage) / "logs" / name
        if not log.exists():
            try:  # once: another process may be reading what it has written at this moment
                write_if_unchanged(log, content, None)
            except OSError:  # a disk without locks
                log.write_bytes(content)
        return log

    def _load(self, config: RunConfig, dataset_id: str, model_id: str) -> None:
        root = locate(config.root, config.storage)
        dataset, model = root / "datasets" / dataset_id, root / "models" / model_id
        manifest = require_manifest(DatasetManifest, dataset, "fit and save it again")
        judged = require_manifest(ModelManifest, model, "fit and save it again").judged
        times = files.read_settings(model).reads_times
        seen = SeenRows.of(config.score.remove_seen, manifest, times)
        parts = [
            seen.of_rows(part.read_table(seen.columns))
            for part in sequence_parts(dataset, manifest)
        ]
        users = pa.concat_tables(parts).combine_chunks()
        user_ids = users["user_id"].cast(id_type(manifest.user_id_type))
        users = users.set_column(0, "user_id", user_ids)
        self._fitted = _Fitted(config, dataset, model, manifest, users, judged)
        self._makers = {}
        self._calibration = None

    def _require(self) -> _Fitted:
        if self._fitted is None:
            raise NotFoundError("this Recommender has learnt nothing yet; call fit(frame) first")
        return self._fitted

    def _lists(self, maker: ListMaker, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        """Wide rows of some users, with the computed columns that are asked for."""
        return recommend_with(maker, rows, schema, self._asked())

    def _asked(self) -> ComputedColumns:
        fitted, score = self._require(), self.config.score
        temperature = self.calibration.temperature if score.probability else None
        return ComputedColumns.of(score, bool(fitted.manifest.data.get("events")), temperature)

    @property
    def calibration(self) -> Calibration:
        """Temperature of the probabilities, and how reliable they are (docs/recommendations.md).

        Raises:
            ConfigError: Nothing was held out.
        """
        if self._calibration is None:
            config = replace(self.config, root=self._require().config.root)
            with one_thread():
                self._calibration = calibrate(
                    config, self._require().model, read_item_choice(config)
                )
        return self._calibration

    def _choice(self, config: RunConfig) -> ItemChoice:
        """Lists and rules of items; tells what of them is unknown."""
        choice = read_item_choice(config)
        known = load_vocabulary(self._require().model)
        for warning in choice.check(known, config.score.allow_unmatched):
            _log.warning("%s", warning)
        return choice

    def _maker(self, k: int) -> ListMaker:
        maker = self._makers.get(k)
        if maker is None:
            fitted = self._require()
            config = replace(self.config, score=replace(self.config.score, k=k))
            recent = count_here(fitted.dataset, fitted.manifest, config.score.recent_days)
            maker = load_list_maker(
                config, fitted.dataset, fitted.model, False, self._choice(config), recent
            )
            self._makers = {k: maker}
        return maker
