"""Words of the gate's checks."""

from dataclasses import asdict

import pytest

from pipelines.nightly.gate import Check
from pipelines.operations.checks import check_text

CHECK = {
    "name": "test ndcg@10",
    "value": 0.123456789,
    "bound": 0.1,
    "setting": "nightly.floors",
    "low": 0.1,
    "high": 0.2,
}


@pytest.mark.parametrize(
    ("rule", "needed"),
    [
        ("at least", "must be at least"),
        ("at most", "must be at most"),
        ("low above", "the lower end must be above"),
        ("low at most", "the lower end must be at most"),
        ("high at most", "the upper end must be at most"),
    ],
)
def test_the_record_of_a_check_reads_as_its_gate_tells_it(rule, needed):
    text = check_text({**CHECK, "rule": rule})
    assert text == (
        f"test ndcg@10 is 0.123457 (95 % interval 0.1 to 0.2), {needed} 0.1 (nightly.floors)"
    )
    check = Check("test ndcg@10", 0.123456789, 0.1, "nightly.floors", rule, 0.1, 0.2)
    assert str(check) == check_text(asdict(check)) == text


def test_a_check_without_interval_or_rule_reads_as_a_least_value():
    plain = {name: CHECK[name] for name in ("name", "value", "bound", "setting")}
    assert check_text(plain) == "test ndcg@10 is 0.123457, must be at least 0.1 (nightly.floors)"
