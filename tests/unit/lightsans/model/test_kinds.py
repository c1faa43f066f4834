import pytest
import torch

from lightsans import LightSANs
from lightsans.config.kinds import ATTENTION
from lightsans.model.kinds import CODE
from tests.models import small_config


def test_every_kind_of_the_table_has_its_code():
    assert set(CODE) == set(ATTENTION)


@pytest.mark.parametrize("kind", ATTENTION.values(), ids=lambda kind: kind.name)
def test_the_model_does_what_the_table_says(kind):
    torch.manual_seed(1)
    config = small_config(attention=kind.name, max_seq_len=4)
    model = LightSANs(config, 9).eval()
    ids, lengths = torch.tensor([[3, 5, 0]]), torch.tensor([2])
    before = model(ids, lengths)
    with torch.no_grad():
        model.item_embedding.weight[0] += 1.0
    assert torch.equal(model(ids, lengths), before) == kind.masks_padding
    if kind.trains_prefixes:
        assert model(ids, lengths, every_position=True).shape == (1, 3, 8)
    else:
        with pytest.raises(ValueError, match="only attention='causal' has one for every position"):
            model(ids, lengths, every_position=True)
