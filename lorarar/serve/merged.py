"""The pair that draws as a LoRA file, in any layout."""

import shutil
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from typing import cast

from lorarar.errors import LorararError
from lorarar.hypernet import ROLES
from lorarar.runtime.pipeline import Pipeline
from lorarar.runtime.request import DrawRequest, lora_facts
from lorarar.save import LAYOUTS, Layout, save_lora

MOST_KEPT = 4  # files that were merged, to be had again
LONGEST_PART = 90  # bytes; file systems take names of 255


@dataclass
class MergedFiles:
    """Files in a folder of the server's, those merged last. made: by the key of their address."""

    pipeline: Pipeline
    folder: Path
    made: OrderedDict[str, Path] = field(default_factory=OrderedDict)

    def write(self, request: DrawRequest, content: Path, style: Path, layout: str) -> str:
        """Merge two LoRAs as `request` draws with them, and return the key of the file.

        layout: of `lorarar.save`; PEFT's folder becomes a ZIP archive.

        Raises LorararError as `Pipeline.merge` and `save_lora` do.
        """
        if layout not in LAYOUTS:
            raise LorararError(f"layout '{layout:.80}' is unknown; use one of {', '.join(LAYOUTS)}")
        scales = request.content_scale, request.style_scale
        merged = self.pipeline.merge(content, style, *scales, method=request.method)
        merged.metadata = {
            "lorarar.method": request.method,
            "modelspec.merged_from": f"{content.name}, {style.name}",
        }
        for role, path, scale in zip(ROLES, (content, style), scales, strict=True):
            merged.metadata |= {
                f"lorarar.{role}": path.name,
                f"lorarar.{role}.sha256": lora_facts(path, scale).sha256,
                f"lorarar.{role}_scale": str(scale),
            }
        key = token_urlsafe(16)
        place = self.folder / key
        place.mkdir(parents=True)
        name = f"{_short(content.stem)}-{_short(style.stem)}-{request.method}"
        if layout == "peft":
            save_lora(merged, place / name, layout)
            file = _zipped(place / name)
        else:
            file = place / f"{name}.safetensors"
            save_lora(merged, file, cast(Layout, layout))
        self.made[key] = file
        while len(self.made) > MOST_KEPT:
            _, oldest = self.made.popitem(last=False)
            shutil.rmtree(oldest.parent)
        return key


def _short(name: str) -> str:
    """What a file's name has room for, twice."""
    return name.encode()[:LONGEST_PART].decode(errors="ignore")


def _zipped(folder: Path) -> Path:
    """Put a folder into an archive beside it, uncompressed, as weights hardly shrink."""
    archive = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder.parent))
                path.unlink()
    return archive
