"""Precision of top-K's products."""

import os
import subprocess
import sys

import pytest
import torch

from lightsans.ranking import products
from tests.commands import ROOT


@pytest.mark.programs
def test_libraries_held_to_old_instructions_multiply_in_float32():
    """There bfloat16 is many times slower, whatever the processor could do."""
    code = (
        "import torch; from lightsans.ranking.top_k import ItemIndex;"
        "print(ItemIndex(torch.randn(2000, 64)).products)"
    )
    held = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env={**os.environ, **held}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == "torch.float32"


@pytest.mark.parametrize(
    ("items", "is_preferred"),
    [
        (torch.ones(100, 64), True),
        (torch.ones(100, 8), False),
        (torch.cat([torch.ones(99, 64), torch.full((1, 64), 50.0)]), False),
        (torch.ones(0, 64), False),
    ],
    ids=["alike", "narrow", "one far longer than the rest", "none"],
)
def test_bfloat16_is_for_wide_items_of_like_length(monkeypatch, items, is_preferred):
    monkeypatch.setattr(products, "_multiplies_bfloat16", lambda: True)
    assert products.prefers_bfloat16(items) == is_preferred
