"""Lists of somebody else, cut into the parts of a dataset and ranked in this process."""

import numpy as np
import pyarrow as pa
import pytest

from lightsans import InputError, Recommender
from lightsans.reports.evaluation_figures import MatchedLists
from lightsans.synthetic.logs import generate_log

USERS = 40


@pytest.fixture(scope="module")
def log():
    made = generate_log(USERS, 30, 800, seed=3)
    return pa.table(
        {"user_id": made.user_ids, "item_id": made.item_ids, "timestamp": made.timestamps}
    )


@pytest.fixture(scope="module")
def fitted(log, tmp_path_factory):
    """A recommender, and the file of the lists that its evaluations measure."""
    file = tmp_path_factory.mktemp("lists") / "lists.csv"
    recommender = Recommender(
        epochs=1, recommendations=str(file), train={"batch_size": 64}, hidden_size=8, k_interests=2,
        max_seq_len=10, evaluate={"popular_days": None},
    )  # fmt: skip
    return recommender.fit(log), file


def write_lists(file, lines):
    file.write_text("user_id,items\n" + "".join(lines))


def last_items(log):
    """Newest item of every user with three interactions or more."""
    rows = log.to_pandas().sort_values("timestamp", kind="stable")
    counts = rows.groupby("user_id").size()
    last = rows.groupby("user_id")["item_id"].last()
    return {int(user): int(last[user]) for user in counts.index[counts >= 3]}


def test_lists_are_measured_beside_the_model_and_users_without_one_miss(log, fitted):
    targets = last_items(log)
    listed = list(targets)[::2]
    lines = [f"{user},99|{targets[user]}\n" for user in listed] + ["1000,5\n"]
    recommender, file = fitted
    write_lists(file, lines)
    found = recommender.evaluate()
    metrics = found.metrics["recommendations"]
    assert metrics["valid"] == {}
    share = len(listed) / len(targets)
    assert metrics["test"]["hit@10"] == pytest.approx(share)
    assert metrics["test"]["ndcg@10"] == pytest.approx(share / np.log2(3))
    low, high = found.intervals["recommendations"]["test"]["hit@10"]
    assert low < share < high
    assert set(found.differences["recommendations"]["test"]) == set(metrics["test"])
    assert found.lists["recommendations"].recommended_items == len(
        {targets[user] for user in listed}
    )
    items = {99, 5} | {targets[user] for user in listed}
    assert found.matched == MatchedLists(
        users=len(listed) + 1,
        users_found=len(listed),
        items=len(items),
        items_found=len(items) - 1,
        with_list=len(listed),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x,5\n", "none of its 1 users, such as 'x', is in dataset"),
        ("1,film\n", "none of its 1 items, such as 'film', is in dataset"),
        ("", "none of its 0 users is in dataset"),
    ],
)
def test_lists_of_strangers_are_refused(fitted, line, message):
    recommender, file = fitted
    write_lists(file, [line])
    with pytest.raises(InputError, match=message):
        recommender.evaluate()
