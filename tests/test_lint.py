"""Lint sees across the four folders, and holds the layers."""

import shutil
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"lorarar": "lorarar", "export": "lorarar.export", "runtime": "lorarar.runtime"}
FOLDERS["benchmarks"] = "lorarar.benchmarks"
BORDERS = [*permutations(FOLDERS, 2)]
TAKES_A_PATH = {  # in each folder, a function whose first argument is no number
    "lorarar": ("lorarar.files", "sha256"),
    "export": ("lorarar.export.report", "size_in_megabytes"),
    "runtime": ("lorarar.runtime.tokenizer", "load_tokenizer"),
    "benchmarks": ("lorarar.benchmarks.report", "make_console"),
}
WRONG_OPTIONS = {"quantize": "int3", "psnr": "high", "nonsense": 1}  # of an exporter
BROKEN_LAYERS = {  # module: what it imports against the order
    "runtime/heavy": "import torch",
    "lorarar/hasty": "import lorarar.runtime.pipeline",
    "lorarar/training/upwards": "import lorarar.export.parts",
    "lorarar/diffusion/upwards": "import lorarar.runtime.merger",
    "export/small_world": "import lorarar.mini.world",
    "lorarar/serve/trained": "import lorarar.training.recipes",
    "lorarar/serve/small_world": "import lorarar.mini.world",
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The tree without its weights, linted by this environment's tools."""
    root = tmp_path_factory.mktemp("copy")
    for folder in FOLDERS:
        shutil.copytree(
            ROOT / folder, root / folder, ignore=shutil.ignore_patterns("assets", "__pycache__")
        )
    shutil.copytree(ROOT / "examples", root / "examples")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    if (ROOT / ".mypy_cache").exists():  # what it knows of libraries saves most of the time
        shutil.copytree(ROOT / ".mypy_cache", root / ".mypy_cache")
    return root


def lint(root: Path, target: str) -> subprocess.CompletedProcess[str]:
    tools = Path(sys.executable).parent
    command = ["make", target, f"BIN={tools}", "-o", f"{tools}/../.venv/ready", "-o", ".venv/ready"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_a_wrong_import_or_argument_across_any_border_fails_lint(copy):
    for here, there in BORDERS:
        module, function = TAKES_A_PATH[there]
        (copy / here / f"wrong_{there}.py").write_text(
            f"import {FOLDERS[there]}.no_such_module\n\n"
            f"from {module} import {function}\n\n"
            f"{function}(1.5, 'too', 'many', 'of', 'them')\n"
        )
    calls = [f"export_pipeline(model, path, {k}={v!r})" for k, v in WRONG_OPTIONS.items()]
    (copy / "export" / "wrong_options.py").write_text(
        "from pathlib import Path\n\n"
        "from lorarar.export.onnx.pipeline import export_pipeline\n"
        "from lorarar.export.parts import OpenedModel\n\n\n"
        "def wrong(model: OpenedModel, path: Path) -> None:\n    " + "\n    ".join(calls) + "\n"
    )
    done = lint(copy, "types")
    assert done.returncode != 0
    said = [line for line in done.stdout.splitlines() if "export/wrong_options.py:" in line]
    for line, option in enumerate(WRONG_OPTIONS, start=8):
        assert any(f".py:{line}: error" in each and f'"{option}"' in each for each in said), said
    (copy / "export" / "wrong_options.py").unlink()
    for here, there in BORDERS:
        file = f"lorarar/{'' if here == 'lorarar' else here + '/'}wrong_{there}.py"
        said = [line for line in done.stdout.splitlines() if line.startswith(f"{file}:")]
        assert any(f'"{FOLDERS[there]}.no_such_module"' in line for line in said), (file, said)
        assert any(TAKES_A_PATH[there][1] in line for line in said), (file, said)
        (copy / here / f"wrong_{there}.py").unlink()


def test_imports_against_the_layers_fail_lint(copy):
    for module, line in BROKEN_LAYERS.items():
        (copy / f"{module}.py").write_text(line + "\n")
    done = lint(copy, "layers")
    assert done.returncode != 0
    for module, line in BROKEN_LAYERS.items():
        importer = module.replace("/", ".")
        importer = importer if importer.startswith("lorarar") else f"lorarar.{importer}"
        imported = line.removeprefix("import ")
        known = "hasty" not in module
        wanted = f"{importer} -> {imported}" if known else importer  # it has no layer at all
        assert wanted in done.stdout, wanted
        (copy / f"{module}.py").unlink()
    assert lint(copy, "layers").returncode == 0
