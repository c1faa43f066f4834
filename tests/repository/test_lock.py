from tools.lock import compare_installed, compare_requirements, portable, read_pins

COMPILED = """\
numpy==2.4.6
    # via
    #   lightsans (pyproject.toml)
    #   pandas
nvidia-cublas==13.4.1.3
    # via torch
torch==2.13.0+cpu
    # via lightsans (pyproject.toml)
triton==3.9.0
    # via torch

# The following packages are considered to be unsafe in a requirements file:
# pip
"""


def test_the_lock_names_no_build_of_torch_and_none_of_its_cuda_packages():
    assert portable(COMPILED) == (
        "numpy==2.4.6\n"
        "    # via\n"
        "    #   lightsans (pyproject.toml)\n"
        "    #   pandas\n"
        "torch==2.13.0\n"
        "    # via lightsans (pyproject.toml)\n"
    )


def test_pins_are_read_by_canonical_name():
    assert read_pins("Foo.Bar_baz==1.0  # why\n\n# note\n") == ({"foo-bar-baz": "1.0"}, [])


def test_lines_that_hold_on_one_machine_only_are_reported():
    lines = ["torch==2.13.0+cpu", "numpy>=2", "--find-links /wheels", "x @ file:///x.whl"]
    pins, problems = read_pins("\n".join(lines))
    assert pins == {}
    assert [problem.split(":")[0] for problem in problems] == [
        f"requirements.lock, line {number}" for number in (1, 2, 3, 4)
    ]


def test_a_requirement_that_the_lock_lacks_or_contradicts_is_reported():
    required = ["numpy>=2", "ray[data]>=3", "rich", "old; python_version < '3'"]
    assert compare_requirements(required, {"numpy": "2.4", "ray": "2.60.0"}) == [
        "ray[data]>=3 in pyproject.toml, 2.60.0 locked; run `make lock`",
        "rich is in pyproject.toml only; run `make lock`",
    ]


def test_an_installed_version_that_is_not_the_locked_one_is_reported():
    pins = {"numpy": "2.4", "torch": "2.13.0", "rich": "15"}
    assert compare_installed(pins, {"numpy": "2.3", "torch": "2.13.0+cpu"}.get) == [
        "numpy==2.4 is locked, 2.3 is installed; run `make setup`",
        "rich==15 is locked, nothing is installed; run `make setup`",
    ]
