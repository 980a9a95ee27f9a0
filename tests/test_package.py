"""As a package: the wheel installs into an empty environment and merges there, without torch."""

import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lorarar import load_hypernet, load_lora, merge
from lorarar.standin import write_standins

ROOT = Path(__file__).parent.parent
FOLDERS = ("export", "runtime", "benchmarks")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def lowest() -> list[str]:
    """The core's dependencies at the lower bounds of their ranges."""
    return [line.split(",")[0].replace(">=", "==") for line in PROJECT["dependencies"]]


def constrained() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def bare(requirement: str) -> str:
    return re.split(r"[\[>=<,]", requirement)[0].lower().replace("_", "-")


def test_every_dependency_is_a_range_that_holds_our_own_version():
    from packaging.requirements import Requirement

    known = {name.lower().replace("_", "-"): version for name, version in constrained().items()}
    extras = PROJECT["optional-dependencies"].values()
    for line in (*PROJECT["dependencies"], *(each for extra in extras for each in extra)):
        if bare(line) == "lorarar":
            continue
        requirement = Requirement(line)
        assert "==" not in line, line
        assert requirement.specifier.contains(known[bare(line)], prereleases=True), line


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "-o", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_every_module_and_the_embedded_model(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in (("lorarar", "lorarar"), *((f, f"lorarar/{f}") for f in FOLDERS)):
        for file in (ROOT / folder).rglob("*.py"):
            assert f"{package}/{file.relative_to(ROOT / folder).as_posix()}" in names
    assert {"lorarar/py.typed", "lorarar/mini/assets/hypernet.safetensors"} <= names


@pytest.mark.slow
@pytest.mark.parametrize("versions", [lowest(), []], ids=["lowest", "newest"])
def test_the_wheel_merges_in_an_empty_environment(versions, wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--prefer-binary", wheel, *versions]
    subprocess.run(install, check=True, cwd=tmp_path)
    pair, hypernet = write_standins(tmp_path, "mini", 4)
    command = [tmp_path / "env" / "bin" / "lorarar", "merge", *pair, "-o", "merged.safetensors"]
    subprocess.run([*command, "--hypernet", hypernet], check=True, cwd=tmp_path)
    found = load_lora(tmp_path / "merged.safetensors")
    wanted = merge(*map(load_lora, pair), hypernet=load_hypernet(hypernet))
    for name, layer in wanted.layers.items():
        for theirs, ours in zip(found.layers[name][:2], layer[:2], strict=True):
            assert np.allclose(np.asarray(theirs), np.asarray(ours), rtol=1e-3, atol=1e-6)
    code = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is not None)"
    assert subprocess.run([python, "-c", code]).returncode == 0
