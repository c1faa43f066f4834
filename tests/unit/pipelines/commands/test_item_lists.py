"""The command `similar` needs a model alone: it may be of a log that nobody has here."""

from typer.testing import CliRunner

from lightsans.errors import ConfigError, NotFoundError
from pipelines.commands.app import app


def test_a_model_that_is_named_needs_no_log(tmp_path):
    similar = ["similar", "-s", f"root={tmp_path}"]
    named = CliRunner().invoke(app, [*similar, "--model", "0a1b2c3d4e5f"])
    assert isinstance(named.exception, NotFoundError)
    assert "models/0a1b2c3d4e5f" in str(named.exception)
    done = CliRunner().invoke(app, similar)
    assert isinstance(done.exception, ConfigError)
    assert "data.input is empty" in str(done.exception)
