"""Lists, rules and the item table of a stage: read once, and handed on."""

import pickle

import numpy as np
import pyarrow as pa

from lightsans.config.file import parse_config
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.lists.tables import Table
from lightsans.recommendations.item_choice import read_item_choice

ITEMS = Vocabulary(pa.array(["a", "b", "c"]), np.array([3, 2, 1]))
SETTINGS = """
score:
  item_table: {table}
  eligible_column: sold
  rules:
    caps: [{{column: sold, at_most: 1, first: 3}}, {{column: brand, at_most: 1, first: 2}}]
    boosts: [{{column: price, weight: 2}}]
"""


def test_a_table_that_eligibility_and_rules_ask_for_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "items.csv").write_text(
        "item_id,brand,sold,price\na,x,yes,1\nb,x,no,2\nc,y,yes,3\n"
    )
    opened = []
    whole = Table.read

    def read_and_note(self, wanted):
        opened.append(self.location)
        return whole(self, wanted)

    monkeypatch.setattr(Table, "read", read_and_note)
    text = SETTINGS.format(table=tmp_path / "items.csv")
    read = read_item_choice(parse_config(text, "f.yaml").config)
    choice = pickle.loads(pickle.dumps(read))  # as tasks get it
    assert choice.fingerprints == read.fingerprints
    assert len(opened) == 1
    assert choice.eligible is not None
    assert choice.eligible.item_ids(ITEMS).tolist() == [1, 3]
    assert choice.rules is not None
    rules = choice.rules.item_rules(ITEMS)
    assert rules.boosts is not None
    assert rules.boosts.tolist() == [0, 2, 4, 6]
    assert rules.codes.shape == (4, 2)  # of two columns, one of which says who is eligible
