"""Directories that hosts start with: a clean clone of the project, and a home."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.commands import ROOT

TRUE_SLEEP = Path("/root/true_sleep.so")
"""Library that hosts find in their home, to load before faketime."""


def make_clone(place: Path) -> None:
    """Copy the files that a clone of this checkout would have, those not committed yet included."""
    place.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    for name in map(os.fsdecode, filter(None, listed.stdout.split(b"\0"))):
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    subprocess.run([sys.executable, "-m", "compileall", "-q", place / "lightsans"], check=True)


def make_home(place: Path) -> None:
    """Make the home that hosts start with: compiled kernels, as an image brings them."""
    from lightsans.compiling import kernel_directory

    place.mkdir()
    source = Path(__file__).with_name(TRUE_SLEEP.with_suffix(".c").name)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", place / TRUE_SLEEP.name, source], check=True)
    kernels = kernel_directory()
    if kernels is not None and kernels.is_dir():
        shutil.copytree(kernels, place / ".cache" / kernels.name)
