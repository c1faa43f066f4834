import pytest

from pipelines.session.merge_tree import FAN_IN, MergeTree, merge_all


class Concatenate:
    """A merge that runs at once, as Ray's task would, and remembers its widths."""

    def __init__(self) -> None:
        self.widths: list[int] = []

    def remote(self, *lists: list[int]) -> list[int]:
        self.widths.append(len(lists))
        return sorted(n for each in lists for n in each)


@pytest.mark.parametrize("count", [1, 2, FAN_IN, FAN_IN + 1, FAN_IN**2 - 1, FAN_IN**2 + 3, 600])
def test_every_object_is_merged_once_and_few_at_a_time(count):
    merge = Concatenate()
    assert merge_all(merge, ([n] for n in range(count))) == list(range(count))
    assert all(1 < width < 2 * FAN_IN for width in merge.widths)


def test_full_groups_are_merged_while_objects_still_come():
    merge = Concatenate()
    tree = MergeTree(merge)
    for n in range(FAN_IN**2):
        tree.add([n])
    assert len(merge.widths) == FAN_IN + 1
    assert tree.root() == list(range(FAN_IN**2))
