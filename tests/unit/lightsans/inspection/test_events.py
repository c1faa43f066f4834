"""Uses that `inspect` proposes for the events of a log."""

import pyarrow as pa
import pytest

from lightsans.config.data import MISSING_VALUES, EventConfig
from lightsans.inspection.events import propose_events

TARGET, INPUT = EventConfig(input=True, target=True, seen=True), EventConfig(input=True)


def propose(*names, times=None):
    count = len(names)
    keys = pa.table(
        {"user": ["u"] * count, "item": ["i"] * count, "time": times or [*range(count)]}
    )
    return propose_events("what", pa.array(names), keys, MISSING_VALUES)


@pytest.mark.parametrize(
    ("names", "targets", "inputs", "unused"),
    [
        (["view", "addtocart", "transaction"], ["transaction"], ["view", "addtocart"], []),
        (["pv", "fav", "cart", "buy"], ["buy"], ["pv", "fav", "cart"], []),
        (["view", "cart", "remove_from_cart", "purchase"], ["purchase"], ["view", "cart"],
         ["remove_from_cart"]),
        (["Impression", "CLICK"], ["CLICK"], [], ["Impression"]),
        (["ProductViewed", "OrderCompleted", "OrderRefunded"], ["OrderCompleted"],
         ["ProductViewed"], ["OrderRefunded"]),
        (["play", "skip", "like", "dislike"], ["like"], ["play"], ["skip", "dislike"]),
        (["view", "something"], ["view"], ["something"], []),
    ],
)  # fmt: skip
def test_the_strongest_event_is_predicted_from_itself_and_the_weaker(
    names, targets, inputs, unused
):
    found = propose(*names)
    assert found is not None
    assert found.events == {
        **dict.fromkeys(targets, TARGET),
        **dict.fromkeys(inputs, INPUT),
        **dict.fromkeys(unused, EventConfig()),
    }


def test_an_event_at_the_time_of_its_target_gives_it_away():
    found = propose("watch", "click", "click", "watch", "click", times=[1, 1, 2, 3, 3])
    assert found is not None
    assert found.events == {"watch": TARGET, "click": EventConfig()}
    assert found.counts == {"click": 3, "watch": 2}
    assert "click 3 (60.0%), watch 2 (40.0%)" in found.remark()
    assert "click would count for nothing, as the same user and item have it" in found.remark()
    apart = propose("watch", "click", "click", "watch", "click", times=[1, 2, 2, 3, 4])
    assert apart is not None
    assert apart.events == {"watch": TARGET, "click": INPUT}
    assert "would predict watch from it and click" in apart.remark()


def test_names_that_say_nothing_are_counted_and_left_to_the_reader():
    found = propose("a", "b", "b", "NULL", "")
    assert found is not None
    assert found.events == {}
    assert "b 2 (66.7%), a 1 (33.3%)" in found.remark()
    assert "such as {b: {input: true, target: true, seen: true}}" in found.remark()


def test_one_event_is_no_choice():
    assert propose("view", "view", None) is None
