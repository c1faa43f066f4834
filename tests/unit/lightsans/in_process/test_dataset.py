"""Oddities of a log are told where it is read in one process, as `preprocess` tells them."""

import numpy as np
import pyarrow as pa
import pytest

from lightsans import Recommender
from lightsans.synthetic.logs import generate_log

MADE = generate_log(30, 20, 400, seed=1)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("timestamp", MADE.timestamps.astype(np.float32), "times are short floats, in steps of"),
        ("timestamp", MADE.timestamps - MADE.timestamps[0], "are from before 1990"),
        ("user_id", [f" u{user}" for user in MADE.user_ids], "have blanks around the user id"),
        ("rating", ["good"] * 400, "have a rating that is no number"),
    ],
)
def test_what_is_odd_about_a_log_is_a_warning(column, values, words, caplog):
    columns = {"user_id": MADE.user_ids, "item_id": MADE.item_ids, "timestamp": MADE.timestamps}
    small = {"max_seq_len": 5, "hidden_size": 8, "inner_size": 8, "n_layers": 1}
    settings = {"min_rating": None} if column == "rating" else {}
    frame = pa.table(columns | {column: values})
    Recommender(epochs=1, model=small, k_interests=2, **settings).fit(frame)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any(words in message for message in told), told
