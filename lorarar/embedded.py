"""The small model that comes with lorarar: where its files are."""

from pathlib import Path

NAME = "mini"  # as a model's, and as a base's in `lorarar.bases`
EMBEDDED = Path(__file__).parent / "mini" / "assets"
BASE = EMBEDDED / "base"
LORAS = EMBEDDED / "loras"
HYPERNET = EMBEDDED / "hypernet.safetensors"
PROMPTS = (  # of what it was trained to draw, in words that any other model knows, too
    "a red cup on grass",
    "a blue house in snow",
    "a green car at night",
    "a yellow fish",
    "a purple tree on sand",
    "a white cat on grass",
    "an orange bird in snow",
    "a black dog on sand",
)


def find_lora(name: str | Path) -> Path:
    """Return the file, or else the embedded LoRA of that name, if there is one."""
    path, embedded = Path(name), LORAS / f"{name}.safetensors"
    return embedded if not path.exists() and embedded.exists() else path
