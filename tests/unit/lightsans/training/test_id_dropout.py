"""Items without their own vectors in a step."""

import numpy as np

from lightsans.training.id_dropout import kept_ids

DESCRIBED = np.arange(1001) > 0


def kept(item_ids, *, seed=1, epoch=0, step=0, probability=0.3, described=DESCRIBED):
    return kept_ids(seed, epoch, step, np.asarray(item_ids), described, probability)


def test_the_given_part_of_the_items_is_left_out():
    found = kept(np.arange(1001))
    assert set(found) == {0.0, 1.0}
    assert abs(found[1:].mean() - 0.7) < 0.05
    assert kept(np.arange(1001), probability=0.0).all()


def test_whether_an_item_is_left_out_depends_on_seed_step_and_item_alone():
    """So all workers agree, whatever other items they have in the step."""
    everything = kept(np.arange(1001))
    some = np.array([900, 3, 77, 3])
    assert kept(some).tolist() == everything[some].tolist()
    for other in ({"seed": 2}, {"epoch": 1}, {"step": 1}):
        assert (kept(np.arange(1001), **other) != everything).any()


def test_padding_and_items_without_features_keep_what_they_have():
    assert kept([0], probability=0.999).tolist() == [1.0]
    described = DESCRIBED & (np.arange(1001) != 5)
    assert kept([5, 5], probability=0.999, described=described).tolist() == [1.0, 1.0]
