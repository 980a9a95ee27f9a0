"""What several files share: a small world to train on, and the embedded model exported."""

import json
import os

import numpy as np
import pytest
import torch
from filelock import FileLock

from lorarar.embedded import HYPERNET
from lorarar.hypernet import load_hypernet
from lorarar.mini.model import make_pipeline, make_vae
from lorarar.mini.styles import STYLES
from lorarar.mini.world import SUBJECTS, draw, prompt_for, random_individual, random_scene
from lorarar.training.images import write_examples

CONTENT, STYLE = list(SUBJECTS)[:3], list(STYLES)[:2]


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """A pipeline folder of random weights."""
    folder = tmp_path_factory.mktemp("untrained") / "base"
    torch.manual_seed(0)
    make_pipeline(make_vae()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def exported_none(tmp_path_factory):
    """The embedded model as an ONNX pipeline in float32, with its hypernetwork."""
    return _exported(tmp_path_factory, "none")


@pytest.fixture(scope="session")
def exported_int8(tmp_path_factory):
    """The same in int8."""
    return _exported(tmp_path_factory, "int8")


def _exported(tmp_path_factory, quantize):
    """Exported once for all workers."""
    from lorarar.export.onnx.pipeline import export_pipeline
    from lorarar.export.source import open_model

    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder = root / f"exported-{quantize}"
    hypernet = load_hypernet(HYPERNET)
    with FileLock(root / f"{quantize}.lock"), open_model("mini", None) as model:
        if not folder.exists():
            export_pipeline(model, folder, quantize, hypernet=hypernet)
    return folder


@pytest.fixture
def world(tmp_path):
    """A folder with a manifest of five LoRAs that are still to be trained, and their images."""
    generator = np.random.default_rng(0)
    loras = []
    for name in (*CONTENT, *STYLE):
        kind = "content" if name in SUBJECTS else "style"
        pictures = []
        for _ in range(2):
            individual = SUBJECTS.get(name) or random_individual(generator)
            scene = random_scene(individual, generator)
            token, style = (name, None) if kind == "content" else (None, name)
            looks = [STYLES[name]] if kind == "style" else []
            pictures.append((draw(scene, *looks), prompt_for(scene, token, style)))
        write_examples(tmp_path / "images" / name, pictures)
        loras.append(
            {
                "file": f"{name}.safetensors",
                "kind": kind,
                "images": f"images/{name}",
                "prompt": f"a {name}",
            }
        )
    recipe = {"rank": 2, "steps": 2, "learning_rate": 0.01}
    manifest = {"format": "lorarar.manifest.1", "recipe": recipe, "loras": loras}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path
