"""What a picture says of how it was drawn, in texts of its PNG.

`lorarar`: JSON, the fields of `PictureFacts`, beside "format": "lorarar.picture.1"; `parameters`:
the same as AUTOMATIC1111's web UI writes it, for tools that read that.
"""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lorarar.artefacts.typed import typed
from lorarar.errors import LorararError
from lorarar.image_files import UNREADABLE, open_image

PICTURE_FORMAT = "lorarar.picture.1"
KEY, OTHERS_KEY = "lorarar", "parameters"
OTHERS_SAMPLERS = {"euler": "Euler", "dpm++2m": "DPM++ 2M", "lcm": "LCM"}
CIVITAI_DIGITS = 10  # of a SHA-256, by which Civitai finds a file


@dataclass(frozen=True)
class LoraFacts:
    """name: of the file, without its suffix; sha256: of the file; scale: its strength."""

    name: str
    sha256: str
    scale: float


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """What drew a picture.

    negative_prompt: None for none, which may differ from the empty one; sampler: the runtime's, or
    the class of diffusers' scheduler; width, height: in pixels; model: its name and precision;
    model_identity: a hash of its UNet's weights, where it is known; lorarar: the version.
    """

    prompt: str
    negative_prompt: str | None
    content: LoraFacts
    style: LoraFacts
    method: str
    seed: int
    steps: int
    guidance: float
    sampler: str
    width: int
    height: int
    model: str
    model_identity: str | None
    lorarar: str = version("lorarar")


def save_png(picture: Image.Image, file: BinaryIO, facts: PictureFacts) -> None:
    """Write a picture and what drew it."""
    texts = PngInfo()
    texts.add_text(KEY, json.dumps({"format": PICTURE_FORMAT} | asdict(facts)))
    texts.add_text(OTHERS_KEY, _parameters(facts).encode(errors="backslashreplace").decode())
    picture.save(file, "PNG", pnginfo=texts)


def read_png(file: Path | BinaryIO, source: str) -> PictureFacts:
    """Read what drew a picture. source: its name, for messages.

    Raises LorararError if the file is no picture of lorarar's, or damaged.
    """
    try:
        with open_image(file) as image:
            image.load()  # texts may follow the pixels
            text = image.info.get(KEY)
    except UNREADABLE as error:
        raise LorararError(f"{source}: no picture, or damaged ({error}); get it again") from error
    if not isinstance(text, str):
        raise LorararError(
            f"{source}: does not say what drew it: not lorarar's PNG, or saved anew by another tool"
        )
    try:
        fields = json.loads(text)
        if fields.pop("format") != PICTURE_FORMAT:
            raise ValueError("another format")
        return typed(PictureFacts, fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LorararError(
            f"{source}: its text '{KEY}' is damaged or of a newer version ({error!r:.200})"
        ) from error


def _parameters(facts: PictureFacts) -> str:
    """The prompt, then the negative one, then the rest in one line of `name: value`."""
    loras = facts.content, facts.style
    rest = {
        "Steps": facts.steps,
        "Sampler": OTHERS_SAMPLERS.get(facts.sampler, facts.sampler),
        "CFG scale": facts.guidance,
        "Seed": facts.seed,
        "Size": f"{facts.width}x{facts.height}",
        "Model": facts.model,
        "Lora hashes": ", ".join(f"{each.name}: {each.sha256[:CIVITAI_DIGITS]}" for each in loras),
        "Content LoRA": facts.content.name,
        "Content strength": facts.content.scale,
        "Style LoRA": facts.style.name,
        "Style strength": facts.style.scale,
        "Merge method": facts.method,
        "Version": f"lorarar {facts.lorarar}",
    }
    lines = [facts.prompt]
    if facts.negative_prompt:
        lines.append(f"Negative prompt: {facts.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in rest.items()))
    return "\n".join(lines)


def _quoted(value: str) -> str:
    """As the web UI does: JSON where a comma, colon or line end would be misread."""
    return json.dumps(value, ensure_ascii=False) if {*value} & {*",:\n"} else value
