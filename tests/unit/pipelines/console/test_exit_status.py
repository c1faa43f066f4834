"""Which exit status each error of the tree has."""

import pytest

from lightsans import errors
from pipelines.console.exit_status import status_of

STATUSES = {
    errors.ConfigError: 2,
    errors.AccessError: 2,
    errors.ResourceError: 2,
    errors.InputError: 2,
    errors.EmptyFileError: 2,
    errors.NothingLeftError: 2,
    errors.RejectLimitError: 2,
    errors.VocabularyMismatchError: 2,
    errors.NotFoundError: 2,
    errors.TrainingError: 1,
    errors.StorageError: 1,
    errors.GateError: 3,
    errors.LeaseError: 4,
    errors.PublishError: 4,
    errors.LightSANsError: 1,
    ValueError: 1,
    KeyboardInterrupt: 130,
}


@pytest.mark.parametrize("error", STATUSES)
def test_an_error_has_the_status_of_the_table(error: type[BaseException]) -> None:
    assert status_of(error("why")) == STATUSES[error]


def test_the_table_knows_every_error() -> None:
    declared = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.LightSANsError)
    }
    assert declared <= STATUSES.keys()
