from lightsans.config.kinds import LOSSES
from lightsans.losses.objective import FUNCTIONS


def test_every_loss_of_the_table_has_its_function():
    assert set(FUNCTIONS) == set(LOSSES)
