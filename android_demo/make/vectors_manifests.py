"""Exported folders, good and damaged, with what Python says of each, for the app's tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorarar import LorararError
from lorarar.artefacts.pipeline import MANIFEST_NAME, check_files, hash_files, read_manifest

FIELDS: dict[str, Any] = {
    "engine": "executorch",
    "quantize": "int8",
    "base": "mini",
    "identity": "0",
    "slot_dtype": "float32",
    "pairs": False,
    "rank": 512,
    "tokens": 16,
    "penultimate": {"text_encoder": "a", "text_encoder_2": "b"},
    "zeros_for_empty": True,
    "channels": 8,
    "side": 16,
    "pixels": 4,
    "scaling": 0.5,
    "parts": {"unet": [{"file": "u.pte", "inputs": {}, "outputs": ["x"], "layers": {}}]},
    "merger": None,
    "format": "lorarar.pipeline.2",
}
CHANGES: dict[str, dict[str, Any]] = {
    "newer": {"format": "lorarar.pipeline.3"},
    "no-format": {"format": None},
    "odd-engine": {"engine": "tflite"},
    "outside": {"files": {"../u.pte": [1, "0"]}},
    "absolute": {"files": {"/u.pte": [1, "0"]}},
    "outside-stage": {
        "parts": {"unet": [{"file": "a/../../u", "inputs": {}, "outputs": [], "layers": {}}]}
    },
    "stage-without-file": {"parts": {"unet": [{"inputs": {}, "outputs": [], "layers": {}}]}},
}
DAMAGES: dict[str, Callable[[Path], object]] = {
    "good": lambda folder: None,
    "missing": lambda folder: (folder / "u.pte").unlink(),
    "longer": lambda folder: (folder / "u.pte").write_bytes(b"program, longer"),
    "changed": lambda folder: (folder / "u.pte").write_bytes(b"Program"),
    "no-manifest": lambda folder: (folder / MANIFEST_NAME).unlink(),
    "no-json": lambda folder: (folder / MANIFEST_NAME).write_text("{"),
    "a-list": lambda folder: (folder / MANIFEST_NAME).write_text("[]"),
}


def write(folder: Path) -> None:
    """Write `manifests.json` and the folders that it speaks of."""
    rows = []
    for name in (*DAMAGES, *CHANGES):
        made = folder / "manifests" / name
        made.mkdir(parents=True, exist_ok=True)
        (made / "u.pte").write_bytes(b"program")
        fields = FIELDS | {"files": hash_files(made)} | CHANGES.get(name, {})
        (made / MANIFEST_NAME).write_text(json.dumps(fields))
        if name in DAMAGES:
            DAMAGES[name](made)
        said = [_verdict(made, hashes).replace(str(made), "{folder}") for hashes in (False, True)]
        rows.append({"folder": name, "without": said[0], "with": said[1]})
    (folder / "manifests.json").write_text(json.dumps(rows))


def _verdict(folder: Path, hashes: bool) -> str:
    try:
        check_files(folder, read_manifest(folder), hashes)
    except LorararError as error:
        return str(error)
    return "good"
