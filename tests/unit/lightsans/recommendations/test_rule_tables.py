"""Rules of the configuration become arrays over items, and lists keep them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lightsans.config import ModelConfig
from lightsans.config.file import parse_config
from lightsans.dataset.sequences import UserSequences
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import InputError
from lightsans.model.network import LightSANs
from lightsans.recommendations.item_choice import read_item_choice
from lightsans.recommendations.list_maker import ListMaker
from lightsans.recommendations.segment import ListRules, segment_of

ITEMS = Vocabulary(pa.array(["tea", "jam", "oil", "rye", "gin"]), np.array([9, 7, 5, 3, 1]))
TABLE = """item_id,brand,tags,price,added
jam,acme,sweet|red,1.5,2026-10-01
tea,acme,hot,0.5,2026-11-02
rye,,,,
gin,zeta,red|strong|red,30,2026-11-20
unknown,omega,hot,1,2026-11-30
"""


def rules_of(tmp_path, text, table=TABLE):
    (tmp_path / "items.csv").write_text(table)
    (tmp_path / "kids.txt").write_text("ann\n")
    (tmp_path / "list.txt").write_text("tea\nrye\n")
    settings = f"score:\n  k: 4\n  item_table: {tmp_path}/items.csv\n  rules:\n{text}"
    return read_item_choice(
        parse_config(settings.replace("DIR", str(tmp_path)), "f.yaml").config
    ).rules


CAP = "    caps: [{column: brand, at_most: 1, first: 3}]\n"


def names_where(flags):
    return {
        name for name, flag in zip(ITEMS.raw_item_ids.to_pylist(), flags[1:], strict=True) if flag
    }


def test_a_cap_counts_items_by_the_values_of_their_column(tmp_path):
    rules = rules_of(tmp_path, CAP).item_rules(ITEMS)
    tea, jam, oil, rye, gin = rules.codes[1:, 0].tolist()
    assert tea == jam != gin
    assert oil == rye == len(rules.at_most) - 1  # without a brand: not capped
    assert rules.at_most.tolist() == [1, 1, 1, 2**31 - 1]
    assert rules.first.tolist() == [3, 3, 3, 0]


def test_an_item_with_several_values_counts_once_for_each(tmp_path):
    text = "    caps: [{column: tags, separator: '|', at_most: 1, first: 3}]\n"
    rules = rules_of(tmp_path, text).item_rules(ITEMS)
    none = len(rules.at_most) - 1
    rows = [{c for c in row if c != none} for row in rules.codes.tolist()]
    assert [len(row) for row in rows] == [0, 1, 2, 0, 0, 2]
    assert len(rows[2] & rows[5]) == 1  # red


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("column: added, min: 2026-11-01", {"tea", "gin"}),
        ("column: price, max: 1.5", {"tea", "jam"}),
        ("column: price, min: 1, max: 29", {"jam"}),
        ("column: tags, values: [red], separator: '|'", {"jam", "gin"}),
        ("items: DIR/list.txt", {"tea", "rye"}),
    ],
)
def test_a_group_is_a_list_or_some_values_of_a_column(tmp_path, group, expected):
    text = f"{CAP}    quotas: [{{group: {{{group}}}, at_least: 1, first: 2}}]\n"
    assert names_where(rules_of(tmp_path, text).item_rules(ITEMS).groups) == expected


def test_boosts_add_up(tmp_path):
    text = """    boosts:
      - {column: brand, values: {acme: 0.5, zeta: -1}}
      - {column: price, weight: 0.1}
      - {column: tags, values: {red: 2, hot: 1}, separator: '|'}
"""
    boosts = rules_of(tmp_path, text).item_rules(ITEMS).boosts
    expected = [0, 0.5 + 0.05 + 1, 0.5 + 0.15 + 2, 0, 0, -1 + 3 + 4]
    assert boosts.tolist() == pytest.approx(expected)


def test_boosts_by_what_is_popular_now_grow_with_the_logarithm_of_how_often_an_item_came_up(
    tmp_path,
):
    text = """    boosts:
      - {recent_days: 7, weight: 2}
      - {recent_days: 30, weight: -1}
      - {column: price, weight: 0.1}
"""
    recent = {7: np.array([0, 3, 0, 0, 0, 1]), 30: np.array([0, 4, 0, 0, 0, 9])}
    tables = rules_of(tmp_path, text)
    boosts = tables.item_rules(ITEMS, recent).boosts
    prices = np.array([0, 0.5, 1.5, 0, 0, 30]) * 0.1
    expected = 2 * np.log1p(recent[7]) - np.log1p(recent[30]) + prices
    assert boosts.tolist() == pytest.approx(expected.tolist())
    assert tables.item_rules(ITEMS).boosts.tolist() == pytest.approx(prices.tolist())


def test_boosts_by_columns_have_the_fingerprint_they_had_before_there_were_others(tmp_path):
    table = "item_id,brand,price\njam,acme,1.5\ntea,acme,0.5\n"
    boosts = "    boosts: [{column: price, weight: 0.1}]\n"
    assert rules_of(tmp_path, boosts, table).fingerprint == "66c5a6b1e90f1ea7"
    other = "    boosts: [{column: price, weight: 0.1}, {recent_days: 7, weight: 1}]\n"
    later = other.replace("7", "8")
    found = {rules_of(tmp_path, text, table).fingerprint for text in (boosts, other, later)}
    assert len(found) == 3


def test_decimals_of_a_parquet_table_are_read(tmp_path):
    table = pa.table({"item_id": ["tea", "jam"], "price": [0.25, None]})
    pq.write_table(table, tmp_path / "prices.parquet")
    text = f"score:\n  item_table: {tmp_path}/prices.parquet\n  rules:\n    boosts: "
    config = parse_config(text + "{column: price, weight: 2}\n", "f.yaml").config
    tables = read_item_choice(config).rules
    assert tables is not None
    boosts = tables.item_rules(ITEMS).boosts
    assert boosts is not None
    assert boosts.tolist() == [0, 0.5, 0, 0, 0, 0]


def test_a_segment_may_have_only_what_it_is_allowed(tmp_path):
    text = """    segments:
      - {users: DIR/kids.txt, allow: {items: DIR/list.txt}}
      - {users: DIR/kids.txt, deny: {column: brand, values: [acme]}}
"""
    denied = rules_of(tmp_path, text).item_rules(ITEMS).denied
    assert names_where(denied & 1) == {"jam", "oil", "gin"}
    assert names_where(denied & 2) == {"tea", "jam"}
    assert denied[0] == 0


def test_rules_are_told_apart_by_what_they_say_and_by_what_their_files_hold(tmp_path):
    text = CAP + "    segments: [{users: DIR/kids.txt, deny: {items: DIR/list.txt}}]\n"
    first = rules_of(tmp_path, text).fingerprint
    assert rules_of(tmp_path, text).fingerprint == first
    header, *rows = TABLE.splitlines()
    turned = "\n".join([header, *rows[::-1]]) + "\n"
    assert rules_of(tmp_path, text, turned).fingerprint == first
    others = [
        rules_of(tmp_path, text.replace("first: 3", "first: 4")),
        rules_of(tmp_path, text, TABLE.replace("zeta", "eta")),
        rules_of(tmp_path, text, TABLE.replace("jam,", "jar,")),
    ]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    assert rules_of(moved, text).fingerprint == first
    kids = rules_of(tmp_path, text)
    (tmp_path / "kids.txt").write_text("bob\n")
    others.append(read_rules_again(tmp_path, text))
    assert len({first, kids.fingerprint, *(other.fingerprint for other in others)}) == 5


def read_rules_again(tmp_path, text):
    settings = f"score:\n  k: 4\n  item_table: {tmp_path}/items.csv\n  rules:\n{text}"
    return read_item_choice(
        parse_config(settings.replace("DIR", str(tmp_path)), "f.yaml").config
    ).rules


@pytest.mark.parametrize(
    ("text", "table", "message"),
    [
        (CAP.replace("brand", "colour"), TABLE, "no column 'colour'"),
        (CAP, TABLE + "tea,acme,,,\n", "item 'tea' has more than one row"),
        ("    boosts: {column: brand, weight: 1}\n", TABLE, "column 'brand' is compared with num"),
        (
            "    quotas: {group: {column: tags, min: 1}, at_least: 1, first: 2}\n",
            TABLE,
            "column 'tags' is compared with numbers",
        ),
    ],
)
def test_a_table_that_rules_cannot_use_is_an_error_that_says_why(tmp_path, text, table, message):
    with pytest.raises(InputError) as raised:
        rules_of(tmp_path, text, table).item_rules(ITEMS)
    assert message in str(raised.value)
    assert "items.csv" in str(raised.value) or "score.item_table" in str(raised.value)


def test_names_that_nothing_answers_to_are_said(tmp_path):
    text = """    boosts: {column: brand, values: {acmee: 1}}
    pins: {item: gone, position: 1}
"""
    assert rules_of(tmp_path, text).describe(ITEMS) == [
        "score.rules.pins: item 'gone' is unknown to the model",
        "score.rules: no item of score.item_table has brand='acmee', which boosts name",
    ]


@pytest.mark.parametrize(
    ("limits", "is_said"),
    [("min: 5, max: 1", True), ("min: .nan", True), ("max: -1", True), ("min: 0", False)],
)
def test_ranges_that_hold_no_item_are_said(tmp_path, limits, is_said):
    text = f"    quotas: {{group: {{column: price, {limits}}}, at_least: 1, first: 2}}\n"
    said = rules_of(tmp_path, text).describe(ITEMS)
    assert len(said) == is_said
    assert all("no item of the model has price within min=" in sentence for sentence in said)


def test_lists_of_items_that_the_model_does_not_know_are_said_or_refused(tmp_path):
    text = "    segments: [{users: DIR/kids.txt, deny: {items: DIR/list.txt}}]\n"
    rules_of(tmp_path, CAP + text)
    (tmp_path / "list.txt").write_text("tea\ngone\nnever\n")
    assert read_rules_again(tmp_path, CAP + text).check(ITEMS, False) == [
        f"score.rules: 2 of 3 ids of {tmp_path}/list.txt are unknown to the model"
    ]
    (tmp_path / "list.txt").write_text("tea\nrye\n")
    assert read_rules_again(tmp_path, CAP + text).check(ITEMS, False) == []
    (tmp_path / "list.txt").write_text("gone\n")
    tables = read_rules_again(tmp_path, CAP + text)
    with pytest.raises(InputError, match=r"score\.rules: .*list\.txt: none of its 1 ids was found"):
        tables.check(ITEMS, False)
    assert len(tables.check(ITEMS, True)) == 1


def test_lists_of_the_model_and_of_popular_items_keep_the_rules(tmp_path):
    """Item 1 is known of ann and of bob, and nothing of cid and dan."""
    text = """    segments: [{users: DIR/kids.txt, deny: {items: DIR/list.txt}}]
    caps: [{column: brand, at_most: 1, first: 4}]
    pins: [{item: gin, position: 1}]
"""
    tables = rules_of(tmp_path, text)
    (tmp_path / "kids.txt").write_text("ann\ncid\n")
    tables = read_rules_again(tmp_path, text)
    torch.manual_seed(0)
    config = ModelConfig(hidden_size=8, inner_size=8, n_layers=1, n_heads=2, max_seq_len=5)
    rules = ListRules(
        tables.item_rules(ITEMS),
        tables.fallback_rules(ITEMS),
        tuple(segment_of(users, pa.string()) for users in tables.users),
    )
    model = LightSANs(config, 5)
    list_maker = ListMaker(model, ITEMS, ITEMS, None, k=4, remove_seen=True, rules=rules)
    histories = UserSequences(np.array([3, 3], np.int32), np.array([0, 1, 2, 2, 2]))
    none = UserSequences(np.zeros(0, np.int32), np.zeros(5, np.int64))
    found = list_maker.recommend(histories, none, np.array([1, 0, 1, 0]))
    ann, bob, cid, dan = found.item_ids.to_pylist()
    assert found.source.to_pylist() == ["model", "model", "popular", "popular"]
    assert ann == ["gin", "jam"]
    assert bob[0] == "gin"
    assert len({"tea", "jam"} & set(bob)) == 1
    assert cid == ["gin", "jam", "oil"]
    assert dan == ["gin", "tea", "oil", "rye"]
    for_all = ListMaker(model, ITEMS, ITEMS, None, k=10**12, remove_seen=True, rules=rules)
    found = for_all.recommend(histories, none, np.array([1, 0, 1, 0])).item_ids.to_pylist()
    assert found[0] == ann
    assert found[3] == [*dan, "jam"]
    users = pa.chunked_array([pa.array(["ann"])])
    assert rules.bits(users).tolist() == [1]
    assert rules.bits(pa.chunked_array([pa.array(["bob"])])).tolist() == [0]


def test_whole_numbers_of_table_and_pins_may_be_written_with_a_point_or_blanks(tmp_path):
    numbers = Vocabulary(pa.array([30, 7, 5]), np.array([9, 7, 5]))
    text = f"{CAP}    pins: [{{item: ' 5', position: 1}}, {{item: '7.0', position: 2}}]\n"
    rules = rules_of(tmp_path, text, "item_id,brand\n30.0,acme\n 7,acme\nx,zeta\n")
    found = rules.item_rules(numbers)
    assert found.codes[1:, 0].tolist() == [0, 0, len(found.at_most) - 1]
    assert [(pin.item_id, pin.position) for pin in found.pins] == [(3, 1), (2, 2)]
    assert not any("pins" in said for said in rules.describe(numbers))


def test_two_rows_that_are_one_item_however_written_are_an_error(tmp_path):
    """A boost of both was added twice."""
    numbers = Vocabulary(pa.array([30, 7, 5]), np.array([9, 7, 5]))
    twice = rules_of(tmp_path, CAP, "item_id,brand\n7,acme\n30,acme\n7.0,zeta\n")
    with pytest.raises(InputError, match=r"score.item_table: '7' and '7.0' are one item, 7; .*one"):
        twice.item_rules(numbers)
    blank = rules_of(tmp_path, CAP, "item_id,brand\njam,acme\n jam,zeta\n")
    with pytest.raises(InputError, match=r"'jam' and ' jam' are one item, 'jam'"):
        blank.item_rules(ITEMS)


def test_a_pin_counts_without_blanks_and_of_two_for_one_item_the_first(tmp_path):
    text = f"{CAP}    pins: [{{item: ' jam', position: 3}}, {{item: jam, position: 1}}]\n"
    [pin] = rules_of(tmp_path, text).item_rules(ITEMS).pins
    assert (pin.item_id, pin.position) == (2, 3)


def test_a_list_in_json_lines_where_a_rule_takes_one_value_is_told_by_its_column(tmp_path):
    file = tmp_path / "items.jsonl"
    file.write_text('{"item_id": "tea", "brand": ["acme", "zeta"]}\n')
    text = (
        f"score: {{item_table: {file}, rules: {{caps: {{column: brand, at_most: 1, first: 3}}}}}}"
    )
    with pytest.raises(InputError, match=r"column 'brand' holds a list, .*; flatten it, or set"):
        read_item_choice(parse_config(text, "f.yaml").config)
