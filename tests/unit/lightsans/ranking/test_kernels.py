"""Compiled search of blocks of scores."""

import subprocess
import sys

import pytest

from lightsans.ranking.products import find_kernels
from tests.commands import ROOT

TWO_SEARCHES = """
import torch
from lightsans.ranking import kernels
from lightsans.ranking.top_k import ItemIndex

for products in ("float32", "bfloat16"):
    ItemIndex(torch.randn(50, 4), products=products).top_k(torch.randn(9, 4), 5)
for function in (kernels.scan, kernels.finish):
    print(sum(function.stats.cache_hits.values()), sum(function.stats.cache_misses.values()))
"""


@pytest.mark.programs
@pytest.mark.skipif(find_kernels() is None, reason="needs Numba")
def test_what_one_process_has_compiled_others_find():
    """Holds in either precision: a function that is handed functions could not be kept."""

    def hits_and_misses() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", TWO_SEARCHES],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.splitlines()

    hits_and_misses()  # compiles what no test has needed before
    assert hits_and_misses() == ["2 0", "1 0"]
