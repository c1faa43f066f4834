"""Work of a recommender in this process."""

import pytest
import torch

from lightsans import ConfigError, Recommender


def test_without_a_gpu_none_is_trained_on(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    log = {"user_id": [1] * 4, "item_id": [1, 2, 3, 4], "timestamp": [1, 2, 3, 4]}
    with pytest.raises(ConfigError, match=r"train.use_gpu=true, and PyTorch finds no GPU"):
        Recommender(train={"use_gpu": True}).fit(log)
