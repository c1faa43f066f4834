import hashlib
import pickle

import pytest
import torch
from hypothesis import given

from lightsans import LightSANs
from lightsans.errors import InputError, NotFoundError
from lightsans.storage.manifests import write_manifest
from lightsans.storage.model_files import (
    WEIGHTS,
    is_made_of,
    read_settings,
    saved_model,
    sha256,
    weights_hash,
    weights_to_bytes,
)
from tests import strategies
from tests.factories import local
from tests.manifests import model_manifest, run_manifest
from tests.models import small_model


def test_equal_weights_give_equal_bytes():
    """The library's own order of the header changes from call to call."""
    model = small_model(9)
    assert len({weights_to_bytes(model) for _ in range(40)}) == 1


@given(attention=strategies.ATTENTIONS, history=strategies.item_ids(9, least=1, most=8))
def test_a_loaded_model_gives_the_scores_of_the_saved_one(attention, history):
    model = small_model(9, attention=attention).eval()
    loaded = LightSANs.from_saved(saved_model(weights_to_bytes(model), "x"))
    ids, lengths = torch.tensor([history]), torch.tensor([len(history)])
    assert torch.equal(loaded.score_items(ids, lengths), model.score_items(ids, lengths))
    assert loaded.config == model.config
    assert not loaded.training


def test_a_model_directory_is_loaded_by_path_or_uri(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(weights_to_bytes(small_model(9)))
    assert LightSANs.from_pretrained(str(tmp_path)).num_items == 9
    assert LightSANs.from_pretrained(tmp_path).num_items == 9
    assert LightSANs.from_pretrained(f"file://{tmp_path}").num_items == 9


def test_a_directory_without_a_model_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"model\.safetensors: not found"):
        LightSANs.from_pretrained(str(tmp_path))


def test_weights_that_are_not_those_of_the_manifest_are_refused(tmp_path):
    """Somebody copied another file there, or reads while the model is trained again."""
    directory = local(tmp_path)
    content = weights_to_bytes(small_model(9))
    (directory / WEIGHTS).write_bytes(content)
    write_manifest(directory, model_manifest(weights_sha256=sha256(content)))
    assert LightSANs.from_pretrained(directory).num_items == 9
    (directory / WEIGHTS).write_bytes(weights_to_bytes(small_model(9)))
    with pytest.raises(InputError, match=r"model\.safetensors: other weights than the manifest"):
        LightSANs.from_pretrained(directory)


@pytest.mark.parametrize("kept", [0, 7, 20, 300, -1])
def test_a_truncated_file_is_an_error_that_names_it(kept):
    with pytest.raises(InputError, match="models/x: not a LightSANs model"):
        saved_model(weights_to_bytes(small_model(9))[:kept], "models/x")


def test_a_pickle_is_refused_and_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    with pytest.raises(InputError, match="not a LightSANs model"):
        saved_model(pickle.dumps(Bomb()), "x")
    assert not (tmp_path / "ran").exists()


def test_the_hash_of_weights_is_recorded_or_for_models_of_before_computed(tmp_path):
    directory = local(tmp_path)
    with pytest.raises(NotFoundError, match=r"manifest\.json: not found; train the model first"):
        weights_hash(directory)
    (directory / WEIGHTS).write_bytes(b"weights")
    write_manifest(directory, model_manifest())
    assert weights_hash(directory) == hashlib.sha256(b"weights").hexdigest()
    write_manifest(directory, model_manifest(weights_sha256="as recorded"))
    assert weights_hash(directory) == "as recorded"


def test_a_result_counts_while_the_model_has_the_weights_it_was_made_of(tmp_path):
    directory = local(tmp_path)
    write_manifest(directory, model_manifest(weights_sha256="ab"))
    assert is_made_of(run_manifest(weights_sha256="ab"), directory)
    assert not is_made_of(run_manifest(weights_sha256="cd"), directory)
    assert not is_made_of(run_manifest(created_at="9999"), directory)  # the model was trained again


def test_results_of_before_count_for_models_of_before_that_are_older(tmp_path):
    directory = local(tmp_path)
    made = write_manifest(directory, model_manifest())
    assert is_made_of(run_manifest(created_at=made.created_at), directory)
    assert is_made_of(run_manifest(created_at="9999"), directory)
    assert not is_made_of(run_manifest(created_at="2000"), directory)
    (directory / WEIGHTS).write_bytes(b"weights")  # a result of today knows what it was made of
    assert is_made_of(
        run_manifest(weights_sha256=hashlib.sha256(b"weights").hexdigest()), directory
    )


def test_settings_are_read_without_the_weights_and_a_plain_models_file_is_that_of_before(tmp_path):
    directory, model = local(tmp_path), small_model(9, gaps="request")
    (directory / WEIGHTS).write_bytes(weights_to_bytes(model))
    assert read_settings(directory) == model.config
    plain = weights_to_bytes(small_model(9))
    assert not [name for name in (b"gaps", b"norm_placement", b"cosine") if name in plain]
    assert saved_model(plain, "x").config.gaps == "none"
    (directory / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a LightSANs model"):
        read_settings(directory)
    (directory / WEIGHTS).delete()
    with pytest.raises(NotFoundError, match=r"model\.safetensors: not found"):
        read_settings(directory)
