"""Checks of the gate in words: of the gate itself, and of the record in a night's report."""

from collections.abc import Mapping
from typing import Any

_NEEDED = {
    "at least": "must be at least",
    "at most": "must be at most",
    "low above": "the lower end must be above",
    "low at most": "the lower end must be at most",
    "high at most": "the upper end must be at most",
}


def check_text(check: Mapping[str, Any]) -> str:
    """The value of a check with its interval, what it must be, and the setting that asks for it.

    Args:
        check: Fields of a `pipelines.nightly.gate.Check`; early versions wrote no rule.
    """
    text = f"{check.get('name')} is {_number(check.get('value'))}"
    if check.get("low") is not None:
        text += f" (95 % interval {_number(check['low'])} to {_number(check.get('high'))})"
    needed = _NEEDED[check.get("rule", "at least")]
    return f"{text}, {needed} {_number(check.get('bound'))} ({check.get('setting')})"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)
