"""Choice of items: lists, rules and the item table of ``score``, read once a stage.

Tasks are handed what was read, so nothing that changes meanwhile gets into a result.
"""

from dataclasses import dataclass

from lightsans.config import RunConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.lists.item_table import read_item_table
from lightsans.recommendations.eligible_items import EligibleItems, read_eligible_items
from lightsans.recommendations.rule_tables import RuleTables, read_rules


@dataclass(frozen=True, slots=True)
class ItemChoice:
    """Items that may be recommended, and rules over lists of them."""

    eligible: EligibleItems | None
    """None where nothing but the model limits them."""
    rules: RuleTables | None

    @property
    def fingerprints(self) -> dict[str, str | None]:
        """Values that differ when anything does that was read."""
        return {
            "eligible_items": None if self.eligible is None else self.eligible.fingerprint,
            "rules": None if self.rules is None else self.rules.fingerprint,
        }

    def check(self, items: Vocabulary, allow_unmatched: bool) -> list[str]:
        """Refuse lists none of whose items is known; warnings about others, and about names.

        Raises:
            InputError: There is one, and ``allow_unmatched`` is false.
        """
        warnings = []
        if self.eligible is not None:
            warnings += self.eligible.check(items, allow_unmatched)
        if self.rules is not None:
            warnings += self.rules.check(items, allow_unmatched) + self.rules.describe(items)
        return warnings


def read_item_choice(config: RunConfig) -> ItemChoice:
    """Read lists, rules and the item table that ``score`` names, the table once.

    Raises:
        InputError: A file is missing or unreadable, a column is not there, or not boolean.
    """
    table = read_item_table(config)
    return ItemChoice(read_eligible_items(config, table), read_rules(config, table))
