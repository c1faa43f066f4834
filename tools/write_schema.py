"""Write pipelines/configs/schema.json, by which editors complete and check the YAML files."""

import json
from pathlib import Path

from lightsans.config.json_schema import json_schema

PATH = Path(__file__).parents[1] / "pipelines/configs/schema.json"

if __name__ == "__main__":
    PATH.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
