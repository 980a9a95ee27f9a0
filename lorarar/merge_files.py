"""The main job: two LoRA files in, one merged LoRA file out."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from lorarar.errors import LorararError
from lorarar.files import refuse_existing, sha256
from lorarar.hypernet import load_hypernet
from lorarar.lora import load_lora
from lorarar.lora_source import weights_file
from lorarar.merge import reduce_rank
from lorarar.methods import MethodName, merge
from lorarar.methods.options import MergeKeywords, Method
from lorarar.save import LAYOUTS, Layout, save_lora, usual_layout


@dataclass(frozen=True)
class MergeReport:
    """seconds: from opening the inputs to the output's rename; rank_error: relative, of dW;
    notes: on the inputs."""

    layers: int
    seconds: float
    rank_error: float | None = None
    notes: tuple[str, ...] = ()


def merge_files(
    content: Path,
    style: Path,
    output: Path,
    *,
    hypernet: Path | None = None,
    method: MethodName | Method = "lorarar",
    rank: int | None = None,
    layout: Layout | None = None,
    force: bool = False,
    **options: Unpack[MergeKeywords],
) -> MergeReport:
    """Merge `content` and `style` and write `output`, with the hashes of what went in.

    method, options: see `lorarar.methods`; layout: see `save_lora`; rank: reduce to this rank.

    Raises LorararError for bad input; then nothing is written.
    """
    started = time.perf_counter()
    refuse_existing(output, force)
    if layout not in (None, *LAYOUTS):
        raise LorararError(f"layout '{layout}' is unknown; use one of {', '.join(LAYOUTS)}")
    inputs: dict[str, Path] = {"content": content, "style": style}
    if hypernet:
        inputs["hypernet"] = hypernet
    pair = load_lora(content), load_lora(style)
    net = load_hypernet(hypernet) if hypernet else None
    with ThreadPoolExecutor(len(inputs)) as pool:
        hashes = {role: pool.submit(sha256, weights_file(path)) for role, path in inputs.items()}
        merged = merge(*pair, method, hypernet=net, **options)
        merged, error = reduce_rank(merged, rank) if rank else (merged, None)
        named = method if isinstance(method, str) else getattr(method, "__name__", "unnamed")
        merged.metadata = {"lorarar.method": named} | {
            f"lorarar.{k}": str(v) for k, v in options.items()
        }
        for role, path in inputs.items():
            merged.metadata[f"lorarar.{role}"] = path.name
            merged.metadata[f"lorarar.{role}.sha256"] = hashes[role].result()
    merged.metadata["modelspec.merged_from"] = f"{content.name}, {style.name}"
    save_lora(merged, output, layout or usual_layout(merged, output), force)
    notes = tuple(f"{lora.source}: {note}" for lora in pair for note in lora.notes)
    return MergeReport(len(merged.layers), time.perf_counter() - started, error, notes)
