"""A night's day must have begun where the log is kept."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lightsans.config import DataConfig
from lightsans.errors import ConfigError
from pipelines.nightly.dates import moment_of_night, require_past

DATA = DataConfig(as_of="2025-11-05")
BERLIN = replace(DATA, timezone="Europe/Berlin")


@pytest.mark.parametrize(
    ("data", "now"),
    [
        (DATA, datetime(2025, 11, 5, tzinfo=UTC)),
        (DATA, datetime(2026, 1, 1, tzinfo=UTC)),
        # It is the fifth in Berlin, not yet in UTC.
        (BERLIN, datetime(2025, 11, 4, 23, 30, tzinfo=UTC)),
        (replace(DATA, as_of="2025-11-05T23:00"), datetime(2025, 11, 5, 1, tzinfo=UTC)),
    ],
)
def test_today_and_every_day_before_may_be_a_night(data, now):
    require_past(data, moment_of_night(data), now)


@pytest.mark.parametrize("data", [DATA, BERLIN, replace(DATA, as_of="2031-06-03")])
def test_a_day_that_is_still_to_come_is_refused(data):
    now = datetime(2025, 11, 4, 22, 59, tzinfo=UTC)
    with pytest.raises(ConfigError, match=r"is still to come: it is 2025-11-04 in .*--force"):
        require_past(data, moment_of_night(data), now)
