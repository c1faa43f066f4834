from lightsans.config.kinds import FORMATS
from lightsans.reading.formats import READ_HEAD


def test_every_format_has_a_reader_and_every_reader_a_format():
    assert set(READ_HEAD) == set(FORMATS)
