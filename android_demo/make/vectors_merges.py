"""Pairs of LoRAs, merged and set into slots as Python does it, for the app's tests."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from lorarar import LorararError, load_lora, save_lora
from lorarar.artefacts.merger import MergerManifest
from lorarar.artefacts.pipeline import PipelineManifest, Stage, read_manifest
from lorarar.bases import BASES, attention_shapes
from lorarar.embedded import HYPERNET, LORAS
from lorarar.hypernet import Hypernet, load_hypernet, to_tensors
from lorarar.layer import Layer
from lorarar.lora import Lora
from lorarar.merge import weighted_sum
from lorarar.numeric import narrow
from lorarar.prepare import Level, prepare
from lorarar.runtime import load_merger
from lorarar.runtime.slots import filled_factors, open_lora, slot_factors
from lorarar.standin import standin_lora

from . import names, vectors_manifests

SCALES = ((1.0, 1.0), (0.7, 1.3), (0.0, 1.0), (-0.5, 2.0))
LEVELS: tuple[Level, ...] = ("small", "full-fp32", "full-fp16")
RANK = 24  # the largest that the slots take
FLOAT32 = np.dtype(np.float32)


def write(folder: Path) -> None:
    """Write `merges/`: LoRAs, a hypernetwork, an exported folder's manifest, and merges.json."""
    folder = folder / "merges"
    folder.mkdir(parents=True, exist_ok=True)
    names.write(folder / "names.json")
    hypernet, merger = load_hypernet(HYPERNET), load_merger(HYPERNET, "numpy", threads=1)
    _write_hypernet(folder, hypernet)
    manifest = _manifest(folder)
    files = _write_loras(folder, hypernet)
    rows = []
    for number, (content, style, scales) in enumerate(_pairs(files)):
        row: dict[str, Any] = {"content": content, "style": style, "scales": scales}
        try:
            one = open_lora(folder / content, manifest, "folder")
            other = open_lora(folder / style, manifest, "folder")
            m = merger.coefficients(one, other)
            merged = weighted_sum(one, other, m, *scales)
            factors = slot_factors(merged, manifest, "folder")
            row |= {"file": f"merge-{number}", "layers": list(m), "message": None}
            np.concatenate([each.ravel() for each in m.values()]).tofile(
                folder / f"merge-{number}.m.f32"
            )
            _write_factors(folder / f"merge-{number}.f32", factors, manifest)
        except LorararError as error:
            said = str(error).replace(str(folder), "{folder}")
            row["message"] = said.replace(str(HYPERNET), "merger")
        rows.append(row)
    (folder / "merges.json").write_text(json.dumps({"pairs": rows, "alone": _alone(folder, files)}))


def _alone(folder: Path, files: Sequence[str]) -> list[dict[str, Any]]:
    manifest, rows = read_manifest(folder), []
    for name in files:
        row: dict[str, Any] = {"lora": name, "message": None}
        try:
            factors = slot_factors(load_lora(folder / name), manifest, "folder")
            _write_factors(folder / f"{name}.f32", factors, manifest)
        except LorararError as error:
            row["message"] = str(error).replace(str(folder), "{folder}")
        rows.append(row)
    return rows


def _write_factors(path: Path, factors: dict[str, np.ndarray], manifest: PipelineManifest) -> None:
    every = []
    for stage in manifest.parts["unet"]:
        given = {name: factors[name] for name in stage.lora_inputs if name in factors}
        every += [each.ravel() for each in filled_factors(given, stage, FLOAT32).values()]
    np.concatenate(every).tofile(path)


def _write_hypernet(folder: Path, hypernet: Hypernet) -> None:
    text = MergerManifest.of(hypernet, "fp32").to_json()
    (folder / "merger.json").write_text(text)
    for name, tensor in to_tensors(hypernet).items():
        if not name.startswith("offset."):
            tensor.astype(np.float32).tofile(folder / f"{name}.f32")


def _manifest(folder: Path) -> PipelineManifest:
    """The small world's slots in two stages and one without any."""
    shapes = attention_shapes(BASES["mini"])
    slots = [(name.removeprefix("unet."), shape) for name, shape in shapes.items()]
    half = len(slots) // 2
    stages = [
        Stage(file=f"{number}.pte", inputs={}, outputs=["x"], projections=dict(part))
        for number, part in enumerate(([], slots[:half], slots[half:]))
    ]
    fields = vectors_manifests.FIELDS | {"rank": RANK, "parts": {"unet": stages}, "files": {}}
    manifest = PipelineManifest(**fields)
    manifest.save(folder)
    return read_manifest(folder)


def _write_loras(folder: Path, hypernet: Hypernet) -> list[str]:
    votol, neon = (load_lora(LORAS / f"{name}.safetensors") for name in ("votol", "neon"))
    wide = standin_lora("mini", 12, 3, np.float32)
    loras = {
        "votol": votol,
        "neon": neon,
        "wide": wide,
        "bfloat16": _as(standin_lora("mini", 4, 4, np.float32), ml_dtypes.bfloat16),
        "half": Lora(dict(list(neon.layers.items())[: len(neon.layers) // 2])),
        "other-half": Lora(dict(list(votol.layers.items())[len(votol.layers) // 2 - 3 :])),
        "nan": _changed(wide, 1, np.nan),
        "large": _scaled(votol, 2e4),
        "rank-25": standin_lora("mini", 25, 5),
        "another-base": standin_lora("koala-700m", 2, 6),
    }
    for number, level in enumerate(LEVELS):
        loras[f"content-{level}"] = prepare(votol, hypernet, "content", level)
        loras[f"style-{level}"] = prepare(neon, hypernet, "style", level)
        loras[f"strange-{level}"] = prepare(
            neon, replace(hypernet, predicts=hypernet.predicts[: 3 - number]), "style", level
        )
    for name, lora in loras.items():
        save_lora(lora, folder / f"{name}.safetensors", force=True)
    alpha = Lora({name: layer._replace(scale=0.25) for name, layer in votol.layers.items()})
    save_lora(alpha, folder / "alpha.safetensors", "kohya", force=True)
    return [f"{name}.safetensors" for name in (*loras, "alpha")]


def _pairs(files: Sequence[str]) -> list[tuple[str, str, tuple[float, float]]]:
    """Every scale for a few, and every second two files."""
    few = [(one, other) for one in files[:2] for other in files[1:4]]
    every = [(one, other) for one in files for other in files if one != other]
    return [(*pair, scales) for pair in few for scales in SCALES] + [
        (*pair, (1.0, 0.9)) for pair in every[::2]
    ]


def _as(lora: Lora, dtype: type) -> Lora:
    kind = np.dtype(dtype)
    return Lora(
        {
            name: Layer(narrow(np.asarray(layer.up), kind), narrow(np.asarray(layer.down), kind))
            for name, layer in lora.layers.items()
        }
    )


def _scaled(lora: Lora, factor: float) -> Lora:
    """down so large that a sum overflows float16, not yet itself."""
    layers = {}
    for name, layer in lora.layers.items():
        down = np.asarray(layer.down).astype(np.float32)
        largest = np.abs(down).max()
        scaled = (down / largest * factor * 3).astype(np.float16)
        layers[name] = Layer(layer.up, scaled)
    return Lora(layers)


def _changed(lora: Lora, which: int, value: float) -> Lora:
    layers = dict(lora.layers)
    name = list(layers)[which]
    up = np.array(layers[name].up)
    up[0, 0] = value
    layers[name] = layers[name]._replace(up=up)
    return Lora(layers)
