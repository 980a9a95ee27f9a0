"""What is shipped, in the formats that everything else reads: a diffusers folder, LoRA files, the
manifest with the pictures that LoRAs learned from.

python -m lorarar.mini2.pack BUILT ASSETS
"""

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from lorarar.mini2.autoencoder import load_vae
from lorarar.mini2.base import load_base
from lorarar.mini2.lanes import load_loras
from lorarar.mini2.looks import STYLES
from lorarar.mini2.loras import Recipe
from lorarar.mini2.model import make_pipeline
from lorarar.mini2.samples import Chunk, style_chunk, subject_chunk
from lorarar.mini2.world import HELD_OUT_STYLES, HELD_OUT_SUBJECTS, SUBJECTS, subject_prompt

MANIFEST, CAPTIONS = "lorarar.manifest.1", "metadata.jsonl"


def pack(built: Path, assets: Path, recipe: Recipe) -> None:
    """Write `base/`, `judge.safetensors` and `loras/`, held-out LoRAs first of all."""
    pipeline = make_pipeline(
        load_base(built / "base.safetensors"), load_vae(built / "vae.safetensors")
    )
    pipeline.to(torch.float16).save_pretrained(assets / "base", safe_serialization=True)
    shutil.copy(built / "judge.safetensors", assets / "judge.safetensors")
    write_loras(built / "loras.safetensors", assets / "loras", [*SUBJECTS, *STYLES])
    write_manifest(assets / "loras", recipe)


def write_loras(source: Path, folder: Path, names: list[str]) -> None:
    """Write one file for each lane, float16, in the canonical layout (lora_A, lora_B)."""
    loras, listed = load_loras(source, names)
    folder.mkdir(parents=True, exist_ok=True)
    for lane, name in enumerate(listed):
        tensors = {}
        for layer, factors in loras.items():
            tensors[f"{layer}.lora_A.weight"] = factors.down[lane].half().contiguous().cpu()
            tensors[f"{layer}.lora_B.weight"] = factors.up[lane].half().contiguous().cpu()
        save_file(tensors, folder / f"{name}.safetensors", {"format": "pt"})


def write_manifest(folder: Path, recipe: Recipe) -> None:
    """Draw the pictures that every LoRA learned from, and describe them."""
    loras = []
    for token in SUBJECTS:
        write_pictures(folder / "images" / token, subject_chunk(token))
        loras.append(_entry(token, "content", subject_prompt(token), token in HELD_OUT_SUBJECTS))
    for style in STYLES:
        write_pictures(folder / "images" / style, style_chunk(style))
        phrase = f"in {style} style"
        entry = _entry(style, "style", f"a dog {phrase}", style in HELD_OUT_STYLES)
        loras.append(entry | {"phrase": phrase})
    told = {"format": MANIFEST, "recipe": {"rank": recipe.rank}, "mini2": asdict(recipe)}
    (folder / "manifest.json").write_text(json.dumps(told | {"loras": loras}, indent=1))


def write_pictures(folder: Path, chunk: Chunk) -> None:
    """PNGs, with the first of each picture's captions."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (pixels, said) in enumerate(zip(chunk.pictures, chunk.captions, strict=True)):
        name = f"{number:03}.png"
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / name)
        lines.append(json.dumps({"file_name": name, "text": said[0]}) + "\n")
    (folder / CAPTIONS).write_text("".join(lines))


def _entry(name: str, kind: str, prompt: str, held_out: bool) -> dict:
    return {
        "file": f"{name}.safetensors",
        "kind": kind,
        "images": f"images/{name}",
        "prompt": prompt,
        "held_out": held_out,
    }


if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]), Recipe())
