"""What the README and the pages say can be done as they say it."""

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.main import get_command

from lorarar.cli import cli
from lorarar.embedded import EMBEDDED, HYPERNET, find_lora

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / "android_demo").glob("*.md"))
CORE = ("hypernet", "lora", "merge", "methods", "prepare", "save")
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")
PROGRAM = r"(lorarar|(?:\.venv/bin/)?python\s+(?:export|benchmarks|examples|android_demo)/\w+\.py) "
COMMANDS = (
    re.compile(rf"^ {{4,}}{PROGRAM}(.+)$", re.MULTILINE),
    re.compile(rf"`{PROGRAM}([^`]+)`"),
)


def blocks(language):
    """Each page's blocks of code in a language."""
    return [
        pytest.param(code, id=f"{page.name}: {title or language}")
        for page in PAGES
        for found, title, code in BLOCK.findall(page.read_text())
        if found == language
    ]


def commands():
    """Each of our commands that the pages tell of, as its page, program and arguments."""
    for page in PAGES:
        text = re.sub(r"\\\n|  #.*", " ", page.read_text())  # lines go on after a backslash
        for pattern in COMMANDS:
            for program, arguments in pattern.findall(text):
                yield page.name, program, shlex.split(arguments)


@pytest.fixture
def folder(tmp_path):
    """What the pages' examples find where they run."""
    shutil.copy(find_lora("votol"), tmp_path / "dog.safetensors")
    shutil.copy(find_lora("neon"), tmp_path / "watercolor.safetensors")
    shutil.copy(HYPERNET, tmp_path)
    return tmp_path


def run(arguments, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", blocks("python"))
def test_python_on_the_pages_runs_as_it_stands(code, folder, request):
    if '"exported"' in code or "merger.onnx" in code:
        exported = request.getfixturevalue("exported_int8")
        (folder / "exported").symlink_to(exported)
        shutil.copy(exported / "merger.onnx", folder)
    run([sys.executable, "-c", code], folder)


@pytest.mark.parametrize("code", blocks("sh"))
def test_shell_on_the_pages_runs_as_it_stands(code, folder):
    (folder / "lorarar" / "mini").mkdir(parents=True)  # as in a checkout
    (folder / "lorarar" / "mini" / "assets").symlink_to(EMBEDDED)
    run(["bash", "-euc", code], folder)


def test_commands_on_the_pages_exist_with_their_options():
    checked, unknown = 0, []
    for page, program, arguments in commands():
        known = options_of(program, arguments)
        asked = {word.split("=")[0] for word in arguments if word.startswith("--")}
        unknown += [f"{page}: {program} {arguments[0]} {option}" for option in asked - known]
        checked += len(asked)
    assert checked
    assert not unknown


def options_of(program, arguments):
    """The options that a command has; a script's are read from its source, without running it."""
    if program == "lorarar":
        top = get_command(cli)
        command = top if arguments[0].startswith("--") else top.commands[arguments[0]]
        return {option for parameter in command.params for option in parameter.opts}
    text = (ROOT / program.split()[1]).read_text()
    names = re.findall(r"^    (\w+): ", text, re.MULTILINE)
    return {
        *re.findall(r'["/](--[\w-]+)', text),
        *(f"--{name.replace('_', '-')}" for name in names),
    }


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_to_files(page):
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.skipif(not find_spec("mkdocs"), reason="mkdocs is not installed")
def test_the_site_is_built_strictly_and_asks_no_other_host(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    run(build, ROOT)
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        loaded = r"<(?:script|img)[^>]* src=.?https?:|<link[^>]* href=.?https?:"
        assert not re.search(loaded, page.read_text()), page


@pytest.mark.parametrize("name", CORE)
def test_examples_in_docstrings_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(import_module(f"lorarar.{name}"))
    assert result.attempted and not result.failed
    assert not list(tmp_path.iterdir())


def test_every_function_of_the_core_has_an_example():
    import lorarar

    functions = [getattr(lorarar, name) for name in lorarar.__all__ if name[0].islower()]
    assert functions
    assert [each.__name__ for each in functions if ">>>" not in each.__doc__] == []
