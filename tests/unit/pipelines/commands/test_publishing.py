"""Commands about what is published, before anything is read."""

import pytest
from typer.testing import CliRunner

from lightsans.errors import ConfigError
from pipelines.commands.app import app


@pytest.mark.parametrize("date", ["", " "])
def test_a_date_that_is_a_variable_without_a_value_is_not_another_date(tmp_path, date):
    settings = ["-s", f"root={tmp_path}/root", "-s", "data.as_of=2020-09-22"]
    done = CliRunner().invoke(app, ["nightly", "--as-of", date, *settings])
    assert isinstance(done.exception, ConfigError)
    assert "--as-of is empty" in str(done.exception)
    assert not (tmp_path / "root").exists()
