import threading

import pytest
import torch

from lightsans.config.kinds import ATTENTION
from lightsans.model.layers import LightAttention
from tests.models import small_model


@pytest.mark.parametrize("attention", ATTENTION)
def test_threads_that_ask_a_new_model_at_once_get_its_vectors(attention, monkeypatch):
    """One asks while another computes what is kept of the positions."""
    model, fresh = (small_model(9, attention=attention).eval() for _ in range(2))
    fresh.load_state_dict(model.state_dict())
    batch = torch.tensor([[1, 2, 3]]), torch.tensor([3])
    original, found = LightAttention._learnt_positions, []

    def interrupted(self, *arguments):
        monkeypatch.setattr(LightAttention, "_learnt_positions", original)
        thread = threading.Thread(target=lambda: found.append(model.encode(*batch)))
        thread.start()
        thread.join()
        return original(self, *arguments)

    monkeypatch.setattr(LightAttention, "_learnt_positions", interrupted)
    found.append(model.encode(*batch))
    expected = fresh.encode(*batch)
    assert len(found) == 2, "an error ended the other thread"
    for vectors in found:
        torch.testing.assert_close(vectors, expected)
