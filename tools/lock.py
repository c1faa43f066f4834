"""Write requirements.lock (``lock.py write``) or check that it is in sync (``lock.py check``).

The lock pins everything that pyproject.toml and its extras pull in, except two things. pip itself
is what reads the file. And torch's build is left open: `torch==2.13.0` may be the CPU build or the
CUDA one, so the ``+cpu`` suffix goes, and so do the CUDA packages, which torch pins itself.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = ROOT / "pyproject.toml"
LOCK = ROOT / "requirements.lock"
PEERS = ROOT / "benchmarks" / "requirements-recbole.txt"
"""Kept by hand: RecBole needs an older numpy and pandas."""
HEADER = """\
# Written by `make lock` from pyproject.toml and all its extras; do not edit.
# Any build of torch will do, so neither +cpu nor the CUDA packages that torch pins are named.
"""
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)$")
_BUILD_OF_TORCH = re.compile(r"^(nvidia-|cuda-|triton$)")


def write(arguments: list[str]) -> None:
    """Resolve with pip-compile; ``--upgrade`` or ``--upgrade-package NAME`` lift existing pins."""
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--all-extras"]
    command += ["--strip-extras", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--no-emit-trusted-host", "--no-emit-options", "--unsafe-package=pip"]
    command += [f"--output-file={LOCK.name}", *arguments, PYPROJECT.name]
    subprocess.run(command, cwd=ROOT, check=True)
    LOCK.write_text(HEADER + portable(LOCK.read_text()))


def portable(compiled: str) -> str:
    """pip-compile's output without what only holds for this machine's build of torch."""
    entries = re.findall(r"^[^\s#].*\n(?:[ \t]+#.*\n)*", compiled, flags=re.MULTILINE)
    kept = [entry for entry in entries if not _BUILD_OF_TORCH.match(entry.partition("==")[0])]
    return re.sub(r"^(torch==[^+\s]+)\+\S+", r"\1", "".join(kept), flags=re.MULTILINE)


def check() -> list[str]:
    """Find differences between pyproject.toml, the locks and this environment."""
    if not LOCK.exists():
        return [f"{LOCK.name} is missing; run `make lock`"]
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"].values()
    required = [*project["dependencies"], *(text for extra in extras for text in extra)]
    pins, problems = read_pins(LOCK.read_text())
    problems += compare_requirements(required, pins)
    peer_pins, _ = read_pins(PEERS.read_text())
    missing = compare_requirements(project["dependencies"], peer_pins)
    problems += [f"{PEERS.relative_to(ROOT)}: {text.partition(';')[0]}" for text in missing]
    return problems + compare_installed(pins, _installed_version)


def read_pins(lock: str) -> tuple[dict[str, str], list[str]]:
    """Canonical name to version, and the lines that are not plain ``name==version`` pins."""
    pins, problems = {}, []
    for number, line in enumerate(lock.splitlines(), start=1):
        text = line.partition("#")[0].strip()
        pin = _PIN.match(text)
        if pin and "+" not in pin["version"]:
            pins[canonicalize_name(pin["name"])] = pin["version"]
        elif text:
            problems.append(
                f"requirements.lock, line {number}: {text!r} is no portable pin such as "
                "name==1.2; run `make lock`"
            )
    return {str(name): version for name, version in pins.items()}, problems


def compare_requirements(required: list[str], pins: Mapping[str, str]) -> list[str]:
    """Requirements of pyproject.toml that the lock lacks or contradicts."""
    problems = []
    for requirement in map(Requirement, required):
        pin = pins.get(canonicalize_name(requirement.name))
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        if pin is None:
            problems.append(f"{requirement} is in pyproject.toml only; run `make lock`")
        elif not requirement.specifier.contains(pin, prereleases=True):
            problems.append(f"{requirement} in pyproject.toml, {pin} locked; run `make lock`")
    return problems


def compare_installed(
    pins: Mapping[str, str], installed_version: Callable[[str], str | None]
) -> list[str]:
    """Packages whose installed version is not the locked one (any build of it will do)."""
    problems = []
    for name, pin in pins.items():
        installed = installed_version(name)
        if installed is None or installed.partition("+")[0] != pin:
            found = f"{installed} is" if installed else "nothing is"
            problems.append(f"{name}=={pin} is locked, {found} installed; run `make setup`")
    return problems


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def main() -> None:
    """Dispatch the one word on the command line."""
    match sys.argv[1:]:
        case ["write", *arguments]:
            write(arguments)
        case ["check"]:
            problems = check()
            if problems:
                sys.exit("requirements.lock is out of sync:\n" + "\n".join(problems))
            print("requirements.lock is in sync")
        case _:
            sys.exit("usage: lock.py write [pip-compile options] | lock.py check")


if __name__ == "__main__":
    main()
