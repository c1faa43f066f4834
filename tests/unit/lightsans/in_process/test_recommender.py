"""A frame in, recommendations in a frame of the same library out."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest
import torch

import lightsans
from lightsans import ConfigError, InputError, LightSANs, NotFoundError, Recommender
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.storage.location import Location
from lightsans.synthetic.logs import generate_log

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 64,
    "model": {"max_seq_len": 10, "hidden_size": 16, "inner_size": 16, "n_layers": 1},
    "k_interests": 2,
}


@pytest.fixture(scope="module")
def log():
    """Users u1 to u60 and items as numbers, in order of time."""
    made = generate_log(60, 40, 900, seed=1)
    return pa.table(
        {
            "user_id": pa.array([f"u{user}" for user in made.user_ids]),
            "item_id": made.item_ids,
            "timestamp": made.timestamps,
            "price": np.arange(900.0),
        }
    )


@pytest.fixture(scope="module")
def fitted(log):
    return Recommender(**SETTINGS).fit(log)


def test_lists_hold_raw_ids_that_the_user_has_not_met_best_first(log, fitted):
    rows = fitted.recommend(["u7", "u3"], k=5).to_pylist()
    assert [(row["user_id"], row["rank"]) for row in rows] == [
        (user, rank) for user in ("u7", "u3") for rank in range(1, 6)
    ]
    for user in ("u7", "u3"):
        own = [row for row in rows if row["user_id"] == user]
        met = log.filter(pa.compute.equal(log["user_id"], user))["item_id"].to_pylist()
        assert not {row["item_id"] for row in own} & set(met)
        scores = [row["score"] for row in own]
        assert scores == sorted(scores, reverse=True)


def test_everybody_is_recommended_to_unless_users_are_named(log, fitted):
    everybody = fitted.recommend(k=3)
    assert set(everybody["user_id"].to_pylist()) == set(log["user_id"].to_pylist())
    alone = fitted.recommend("u3", k=3).to_pylist()
    same = [row for row in everybody.to_pylist() if row["user_id"] == "u3"]
    assert [row["item_id"] for row in alone] == [row["item_id"] for row in same]


def test_frames_of_all_libraries_teach_the_same_and_come_back_as_themselves(log, fitted):
    expected = fitted.recommend(["u1", "u2"])
    in_pandas = log.to_pandas().set_index("price")
    in_polars = polars.DataFrame(log).with_columns(polars.col("user_id").cast(polars.Categorical))
    for frame, kind in ((in_pandas, pandas.DataFrame), (in_polars, polars.DataFrame)):
        found = Recommender(**SETTINGS).fit(frame)
        for made in (found.recommend(["u1", "u2"]), found.similar([3, 5])):
            assert isinstance(made, kind)
        users = frame["user_id"][:2]
        assert len(found.recommend(users)) == 10 * len(users)
        lists = pa.table(found.recommend(["u1", "u2"]))
        assert lists.select(expected.column_names).to_pylist() == expected.to_pylist()


def test_columns_have_the_names_or_places_that_are_given(log, fitted):
    other = log.select(["price", "item_id", "timestamp", "user_id"])
    other = other.rename_columns(["price", "film", "when", "who"])
    named = Recommender(**SETTINGS, user="who", item=1, timestamp="when").fit(other)
    assert named.recommend("u1").equals(fitted.recommend("u1"))


def test_two_threads_may_ask_for_lists_of_different_lengths_at_once(fitted):
    class Interrupted(dict[int, Any]):
        """Another thread has its lists made once this one has seen that its maker is there."""

        def __contains__(self, k):
            is_there = super().__contains__(k)
            fitted._makers = {}
            fitted.recommend("u3", k=2)
            return is_there

    expected = fitted.recommend("u3", k=3)
    fitted._makers = Interrupted(fitted._makers)
    assert fitted.recommend("u3", k=3).equals(expected)


def test_similar_items_are_other_items_with_their_cosines(fitted):
    rows = fitted.similar([5, 3], k=4).to_pylist()
    assert [(row["item_id"], row["rank"]) for row in rows] == [
        (item, rank) for item in (5, 3) for rank in (1, 2, 3, 4)
    ]
    assert all(row["item_id"] != row["similar_item_id"] for row in rows)
    assert all(-1.001 <= row["score"] <= 1.001 for row in rows)


def test_an_evaluation_has_the_model_and_baselines_with_intervals(fitted):
    found = fitted.evaluate()
    assert found.users["test"] > 10
    for scorer in ("model", "popular", "successor"):
        low, high = found.intervals[scorer]["test"]["ndcg@10"]
        assert low <= found.metrics[scorer]["test"]["ndcg@10"] <= high
    best = max(fitted.history, key=lambda row: row["valid"]["ndcg@10"])
    assert found.metrics["model"]["valid"] == pytest.approx(best["valid"])


def test_threads_of_the_caller_change_no_number_and_are_left_alone(log, fitted):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        other = Recommender(**SETTINGS).fit(log)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    losses = [[row["loss"] for row in each.history] for each in (other, fitted)]
    assert losses[0] == losses[1]


def test_a_saved_one_recommends_and_evaluates_the_same(fitted, tmp_path):
    fitted.save(tmp_path / "saved")
    loaded = Recommender.load(tmp_path / "saved")
    assert loaded.recommend(k=4).equals(fitted.recommend(k=4))
    assert loaded.similar(k=2).equals(fitted.similar(k=2))
    assert loaded.evaluate() == fitted.evaluate()
    assert loaded.config.model == fitted.config.model
    fitted.save(tmp_path / "saved")  # over what is there
    assert Recommender.load(tmp_path / "saved").recommend("u1").equals(fitted.recommend("u1"))


def test_a_log_that_another_process_wrote_meanwhile_stays_as_it_is(log, tmp_path, monkeypatch):
    settings: dict[str, Any] = {**SETTINGS, "epochs": 1, "root": str(tmp_path)}
    Recommender(**settings).fit(log)
    [file] = (tmp_path / "logs").glob("*.parquet")
    before = file.stat()
    monkeypatch.setattr(Location, "exists", lambda self: False)  # it was not there a moment ago
    Recommender(**settings, seed=7).fit(log)
    assert file.stat() == before


def test_unknown_ids_and_ids_of_another_type_are_named(fitted):
    with pytest.raises(NotFoundError, match="user 'x': not among the 60 users that fit"):
        fitted.recommend(["u1", "x"])
    with pytest.raises(NotFoundError, match="item 41: not among the 40 items"):
        fitted.similar(41)
    with pytest.raises(InputError, match="'x' are no ids of the log, which are whole numbers"):
        fitted.similar("x")


def test_nothing_is_recommended_before_fit():
    with pytest.raises(NotFoundError, match=r"call fit\(frame\) first"):
        Recommender().recommend()
    assert repr(Recommender()) == "Recommender(not fitted)"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            {"user_id": [1], "item_id": [2]},
            "the frame: there is no column 'timestamp'; found 'user_id', 'item_id'",
        ),
        ([1, 2], "given a builtins.list; expected a frame of pandas"),
        (polars.LazyFrame({"user_id": [1]}), r"call its collect\(\) first"),
        (
            pandas.DataFrame({"user_id": [1, "a"], "item_id": [1, 2], "timestamp": [1, 2]}),
            "the frame holds what Arrow cannot",
        ),
    ],
)
def test_what_is_no_log_is_refused(frame, message):
    with pytest.raises(InputError, match=message):
        Recommender().fit(frame)


def test_a_log_without_anything_to_learn_is_refused():
    frame = {"user_id": ["a"], "item_id": ["b"], "timestamp": [1]}
    with pytest.raises(InputError, match="no user has two interactions"):
        Recommender(epochs=1).fit(frame)
    with pytest.raises(InputError, match=r"no rows before data\.as_of=1970-01-01"):
        Recommender(epochs=1, as_of="1970-01-01").fit(frame)


def test_rows_that_repeat_others_are_told_unless_they_are_left_out(log, caplog):
    rows = log.slice(0, 100)
    twice = pa.concat_tables([rows, rows])
    Recommender(**SETTINGS).fit(twice)
    assert "50.0% of the rows repeat user, item and time of another" in caplog.text
    caplog.clear()
    Recommender(**SETTINGS, dedupe="last").fit(twice)
    assert "rows repeat" not in caplog.text


def test_rows_without_a_user_are_refused_up_to_a_share(log, caplog):
    frame = log.slice(0, 300).to_pandas()
    frame.loc[:9, "user_id"] = None
    fitted = Recommender(**SETTINGS).fit(frame)
    assert "rows refused: user_missing 10 (such as" in caplog.text
    assert fitted._require().manifest.rows.rejected == {"user_missing": 10}
    frame.loc[:99, "user_id"] = None
    with pytest.raises(lightsans.RejectLimitError, match="user_missing 100"):
        Recommender(**SETTINGS).fit(frame)


def test_a_condition_may_look_at_any_column(log):
    fitted = Recommender(**SETTINGS, where="price >= 100 and item_id > 2").fit(log)
    rows = log.to_pandas()
    left = rows[(rows["price"] >= 100) & (rows["item_id"] > 2)]
    manifest = fitted._require().manifest
    assert (manifest.rows.valid, manifest.rows.filtered) == (len(left), len(rows) - len(left))
    assert manifest.items == left["item_id"].nunique()


def test_a_temporal_split_cuts_by_shares_of_the_rows(log):
    split: Any = {"split": "temporal", "temporal": {"valid_fraction": 0.1, "test_fraction": 0.1}}
    fitted = Recommender(**SETTINGS, data=split).fit(log)
    assert set(fitted._require().manifest.cutoffs or {}) == {"valid_from", "test_from"}
    assert fitted.evaluate().users["test"] > 0


def test_an_item_on_the_deny_list_is_nowhere(log, tmp_path):
    denied = tmp_path / "denied.txt"
    denied.write_text("3\n5\n")
    fitted = Recommender(**SETTINGS, deny_items=str(denied)).fit(log)
    lists = fitted.recommend(k=40)["item_id"].to_pylist()
    assert not {3, 5} & {*lists, *fitted.similar(k=39)["similar_item_id"].to_pylist()}
    denied.write_text("303\n")  # as in the pipeline, a list of which nothing is known is a slip
    for ask in (lambda: fitted.recommend("u3", k=2), lambda: fitted.similar(k=2)):
        with pytest.raises(InputError, match=r"deny_items.* none of its 1 ids"):
            ask()


def test_columns_of_tables_and_reasons_stand_beside_recommendations(log, tmp_path):
    items, users = tmp_path / "items.csv", tmp_path / "users.csv"
    items.write_text("item_id,title\n" + "".join(f"{item},film {item}\n" for item in range(1, 41)))
    users.write_text("user_id,country\nu3,de\n")
    asked = {"item_table": str(items), "item_columns": ["title"], "because": 2}
    asked |= {"user_table": str(users), "user_columns": ["country"]}
    rows = Recommender(**SETTINGS, score=asked).fit(log).recommend(["u7", "u3"], k=4).to_pylist()
    assert [row["country"] for row in rows] == [None] * 4 + ["de"] * 4
    met = {}
    for user in ("u7", "u3"):
        met[user] = log.filter(pa.compute.equal(log["user_id"], user))["item_id"].to_pylist()
    for row in rows:
        assert row["title"] == f"film {row['item_id']}"
        assert set(row["because"]) <= set(met[row["user_id"]])


@pytest.mark.parametrize("method", ["recommend", "similar"])
def test_a_list_has_at_least_one_item(fitted, method):
    with pytest.raises(ConfigError, match=rf"{method}\(k=0\): a list has at least one item"):
        getattr(fitted, method)(k=0)


def test_whoever_asks_for_nobody_gets_columns_without_rows(log, fitted):
    explaining = Recommender(**SETTINGS, score={"because": 2}).fit(log)
    for some, none in (
        (explaining.recommend("u1"), explaining.recommend([])),
        (fitted.similar(5), fitted.similar([])),
    ):
        assert (none.schema, none.num_rows) == (some.schema, 0)


def test_no_epoch_is_chosen_by_what_was_learnt_and_none_of_it_is_asked(log):
    with pytest.raises(ConfigError, match=r"data\.split=none.*refit_epochs says for how many"):
        Recommender(**SETTINGS, split="none").fit(log)
    for split, message in (("none", "holds nothing out"), ("leave_one_out", "has learnt what it")):
        refitted = Recommender(**SETTINGS, split=split, refit_epochs=1).fit(log)
        assert len(refitted.recommend("u1")) == 10
        with pytest.raises(ConfigError, match=message):
            refitted.evaluate()


def test_events_that_the_log_does_not_hold_are_told_beside_those_that_it_holds(log):
    frame = log.append_column("what", pa.array(["buy"] * 300 + ["view"] * 600))
    bye = {"bye": {"input": True, "target": True}}
    with pytest.raises(InputError, match=r"for nothing in data\.events: view 600, buy 300"):
        Recommender(**SETTINGS, event="what", events=bye).fit(frame)


def test_a_refit_learns_what_was_held_out_and_the_first_model_is_judged(log, fitted, tmp_path):
    made = Recommender(**SETTINGS, probability=True).fit(log, refit=True)
    assert made.evaluate().metrics == fitted.evaluate().metrics
    best = max(fitted.history, key=lambda row: row["valid"]["ndcg@10"])["epoch"]
    same = Recommender(**SETTINGS, refit_epochs=best).fit(log)
    lists = made.recommend(["u3", "u7"])
    assert lists.drop_columns("probability") == same.recommend(["u3", "u7"])
    assert made.calibration.model_id == made._require().tested[1].name != made._require().model.name
    made.save(str(tmp_path))
    loaded = Recommender.load(str(tmp_path))
    assert loaded.evaluate().metrics == fitted.evaluate().metrics
    assert loaded.recommend(["u3", "u7"]) == lists


def test_a_refit_of_a_temporal_split_knows_the_newest_items(log):
    newest = log.slice(0, 3).set_column(1, "item_id", pa.array([77, 77, 77]))
    late = pa.array([int(log["timestamp"].to_numpy().max()) + 5] * 3)
    frame = pa.concat_tables([log, newest.set_column(2, "timestamp", late)])
    cuts = {"split": "temporal", "temporal": {"valid_fraction": 0.1, "test_fraction": 0.1}}
    made = Recommender(**SETTINGS, data=cuts).fit(frame, refit=True)
    assert 77 in made.similar()["item_id"].to_pylist()
    whole, first = (
        load_vocabulary(each) for each in (made._require().dataset, made._require().tested[0])
    )
    assert whole.extends(first)  # as in the pipeline, which goes on from the judged dataset
    assert made.evaluate().users["test"] > 0


def test_purchases_are_recommended_from_views_and_purchases(caplog):
    """Users view two items and buy the first of them; nobody ever buys the items from 20 on."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", item, 86_400 * day + at, what)
        for user in range(40)
        for day, item in enumerate(rng.integers(0, 10, 6).tolist())
        for at, item, what in ((0, item, "view"), (60, 20 + item, "view"), (99, item, "buy"))
    ]
    names = ("user_id", "item_id", "timestamp", "what")
    frame = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    events = {"buy": {"input": True, "target": True, "seen": True}, "view": {"input": True}}
    fitted = Recommender(**SETTINGS, event="what", events=events | {"bought": {}}).fit(frame)
    assert "no row has the events bought of data.events" in caplog.text
    lists = fitted.recommend(k=20).to_pylist()
    for user in ("u0", "u1", "u2"):
        bought = {item for name, item, _, what in rows if name == user and what == "buy"}
        found = {row["item_id"] for row in lists if row["user_id"] == user}
        assert found == set(range(10)) - bought
    some: Any = {"remove_seen": {"days": 2.5, "events": ["buy"]}}  # bought on the last three days
    later = Recommender(**SETTINGS, event="what", events=events, score=some).fit(frame)
    lists = later.recommend(k=20)
    for user in ("u0", "u1", "u2"):
        own = [row for row in rows if row[0] == user and row[3] == "buy"]
        last = {item for _, item, at, _ in own if at > 5.001 * 86_400 - 2.5 * 86_400}
        found = {row["item_id"] for row in lists.to_pylist() if row["user_id"] == user}
        assert found == set(range(10)) - last
    viewed = fitted.evaluate().segments["target viewed"]
    assert {label: found.users for label, found in viewed.items()} == {"within the hour before": 40}


@pytest.fixture(scope="module")
def asked_at(log):
    """A model that reads the moment of the request, tested behind a cut-off in time."""
    split = {"split": "temporal", "temporal": {"valid_fraction": 0.1, "test_fraction": 0.1}}
    return Recommender(**SETTINGS, gaps="request", data=split, because=1).fit(log)


def test_lists_are_for_the_newest_time_of_the_log_or_for_the_moment_that_is_named(log, asked_at):
    newest = max(log["timestamp"].to_pylist())
    model = LightSANs.from_pretrained(asked_at._fitted.model)
    items = load_vocabulary(asked_at._fitted.dataset)
    own = log.filter(pa.compute.equal(log["user_id"], "u7")).sort_by("timestamp")
    ids = items.encode(own["item_id"].combine_chunks())
    seconds = own["timestamp"].to_numpy()[ids > 0]
    history = torch.from_numpy(ids[ids > 0].astype(np.int64))[None]
    times = torch.from_numpy(seconds.astype(np.int64) * 10**6)[None]
    for now in (None, newest + 10**7, 2 * newest):
        named = None if now is None else datetime.fromtimestamp(now, UTC)
        rows = asked_at.recommend("u7", k=5, now=named).to_pylist()
        moment = torch.tensor([(newest if now is None else now) * 10**6])
        length = torch.tensor([history.shape[1]])
        best = model.recommend(history, length, 5, timestamps=times, now=moment).item_ids[0]
        expected = items.decode(best.numpy().astype(np.int32)).to_pylist()
        assert [row["item_id"] for row in rows] == expected
        assert rows[0]["because"] is None or len(rows[0]["because"]) == 1


def test_such_a_model_is_evaluated_calibrated_saved_and_loaded(asked_at, tmp_path):
    figures = asked_at.evaluate()
    assert 0 <= figures.metrics["model"]["test"]["ndcg@10"] <= 1
    assert asked_at.calibration.temperature > 0
    asked_at.save(str(tmp_path))
    loaded = Recommender.load(str(tmp_path))
    assert loaded.recommend("u7", k=5).equals(asked_at.recommend("u7", k=5))


def test_a_moment_is_refused_by_models_that_do_not_read_it_and_where_it_is_none(fitted, asked_at):
    with pytest.raises(ConfigError, match=r'does not read the moment.*fit one with gaps="request"'):
        fitted.recommend("u7", now="2026-11-28")
    with pytest.raises(ConfigError, match=r"recommend\(now='soon'\): expected an ISO time"):
        asked_at.recommend("u7", now="soon")
    with pytest.raises(ConfigError, match=r"recommend\(now='1970-01-01'\).*has an item of 2022-"):
        asked_at.recommend(["u7", "u8"], now="1970-01-01")
