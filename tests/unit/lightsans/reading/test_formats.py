from lightsans.config.kinds import FORMATS
from lightsans.reading.formats import INSPECT


def test_every_format_has_a_reader_and_every_reader_a_format():
    assert set(INSPECT) == set(FORMATS)
