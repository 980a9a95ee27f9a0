"""Merge a pair of LoRAs and draw with it, by torch and diffusers.

python examples/draw_with_a_pair.py votol neon "a votol cup in neon style"
python examples/draw_with_a_pair.py dog.safetensors ink.safetensors "a dog in ink style" \
    --model path/to/sdxl --hypernet hypernet.safetensors
"""

import argparse
from pathlib import Path

from lorarar.diffusion.generate import generate
from lorarar.diffusion.pipeline import save_picture

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("content", help="a file, or the name of a LoRA that comes with lorarar")
parser.add_argument("style")
parser.add_argument("prompt")
parser.add_argument("-o", "--output", type=Path, default=Path("picture.png"))
parser.add_argument("--model", help="an SDXL-class model; the small one of lorarar by default")
parser.add_argument("--hypernet", type=Path, help="trained for that model")
parser.add_argument("--steps", type=int, default=20)
asked = parser.parse_args()

drawn = generate(
    asked.content,
    asked.style,
    asked.prompt,
    model=asked.model,
    hypernet=asked.hypernet,
    steps=asked.steps,
)
save_picture(drawn.picture, asked.output)
print(f"{asked.output}: merged in {drawn.merge_seconds * 1e3:.1f} ms")
