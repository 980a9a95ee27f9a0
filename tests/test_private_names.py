"""Private names of libraries: each that is listed exists and is used, and no other is used."""

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

from lorarar.private_names import PRIVATE_NAMES, TRIED, is_tried

ROOT = Path(__file__).parent.parent
FOLDERS = ("lorarar", "export", "runtime", "benchmarks")
OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}  # documented


def is_private(name):
    return name.isidentifier() and name != "_" and name[0] == "_" and name[:2] != "__"


def defined_here(trees):
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def private_names_in(tree, known_here):
    """Imports as "module:name", attributes and names in strings of calls as ".name"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("lorarar"):
            private_module = any(map(is_private, node.module.split(".")))
            for alias in node.names:
                if private_module or is_private(alias.name):
                    yield f"{node.module}:{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if any(map(is_private, alias.name.split("."))):
                    yield alias.name
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            if node.attr not in known_here | OF_NAMED_TUPLES:
                yield f".{node.attr}"
        elif isinstance(node, ast.Call):
            named = ast.unparse(node.func).endswith(("patch.object", "getattr", "setattr"))
            for each in node.args if named else []:
                if isinstance(each, ast.Constant) and is_private(str(each.value)):
                    yield f".{each.value}"


def is_listed(used):
    return any(
        each.name.endswith(used) if used.startswith(".") else each.name == used
        for each in PRIVATE_NAMES
    ) or any(used.startswith(".") and each.name.endswith(f":{used[1:]}") for each in PRIVATE_NAMES)


@pytest.fixture(scope="module")
def used():
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    trees = [ast.parse(file.read_text()) for file in files]
    known_here = defined_here(trees)
    return {name for tree in trees for name in private_names_in(tree, known_here)}


def test_no_other_private_name_is_used(used):
    assert [name for name in sorted(used) if not is_listed(name)] == []


def test_every_listed_name_is_used(used):
    last = {name.rpartition(".")[2].rpartition(":")[2] for name in used}
    listed = {each.name.rpartition(":")[2].rpartition(".")[2] for each in PRIVATE_NAMES}
    assert listed <= last


def test_an_unlisted_name_would_be_found():
    tree = ast.parse("import torch\nfrom torch._dynamo import x\ntorch._C.y\npatch.object(a, '_b')")
    found = set(private_names_in(tree, set()))
    assert found == {"torch._dynamo:x", "._C", "._b"}
    assert not any(map(is_listed, found))


@pytest.mark.parametrize("each", PRIVATE_NAMES, ids=lambda each: each.name)
def test_every_listed_name_exists(each):
    module, _, path = each.name.partition(":")
    *owners, name = path.split(".")
    owner = import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    if inspect.ismodule(owner) and not hasattr(owner, name):
        import_module(f"{module}.{name}")
    elif not hasattr(owner, name):
        assert f"self.{name}" in inspect.getsource(owner)


def test_the_versions_here_have_been_tried():
    assert {each.library for each in PRIVATE_NAMES} == set(TRIED)
    assert all(map(is_tried, TRIED))
