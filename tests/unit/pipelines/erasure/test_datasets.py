"""Datasets that cannot be made again without users: without Ray."""

import pytest

from lightsans.config import RunConfig
from lightsans.errors import ConfigError
from lightsans.storage.manifests import write_manifest
from pipelines.erasure.datasets import replace_dataset
from pipelines.preprocess.parts import FORMAT_VERSION
from tests.factories import local
from tests.manifests import dataset_manifest


def test_a_dataset_of_another_release_is_named_with_the_way_out_of_an_erasure(tmp_path):
    root = local(tmp_path)
    old = dataset_manifest("old", format_version=FORMAT_VERSION - 1)
    write_manifest(root / "datasets" / "old", old)
    with pytest.raises(ConfigError, match=r"datasets/old: .* Delete this directory") as caught:
        replace_dataset(RunConfig(root=root.uri), root, old, {})
    assert "--base" not in str(caught.value)
