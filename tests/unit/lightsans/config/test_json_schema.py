"""The schema that editors complete and check settings with."""

import json
from pathlib import Path

from lightsans.config import RunConfig, to_dict
from lightsans.config.json_schema import json_schema


def test_the_schema_knows_every_setting_and_nothing_else():
    schema = json_schema()
    model = schema["$defs"]["ModelConfig"]
    assert model["additionalProperties"] is False
    assert "k_interests" in model["properties"]
    assert "num_layers" in model["properties"]
    assert set(schema["properties"]) == set(to_dict(RunConfig()))


def test_the_schema_carries_the_docstrings_of_the_fields():
    properties = json_schema()["$defs"]["TrainConfig"]["properties"]
    assert properties["use_gpu"]["description"] == "One GPU per worker."


def test_the_committed_schema_is_the_current_one():
    path = Path(__file__).parents[4] / "pipelines/configs/schema.json"
    assert json.loads(path.read_text()) == json_schema(), "run `make schema`"
