"""Draw one subject in several styles with an exported model, swapping LoRAs in, without torch.

lorarar export onnx -o exported
python examples/swap_loras.py exported votol neon ink frost --prompt "a votol cup in {} style"
"""

import argparse
import time
from pathlib import Path

from lorarar.embedded import find_lora
from lorarar.runtime.pipeline import Pipeline

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("exported", help="what `lorarar export` wrote")
parser.add_argument("content", help="a file, or the name of a LoRA that comes with lorarar")
parser.add_argument("styles", nargs="+")
parser.add_argument("--prompt", required=True, help="{} stands for the style's name")
parser.add_argument("--backend", default="onnxruntime")
parser.add_argument("--steps", type=int, default=20)
asked = parser.parse_args()

pipeline = Pipeline.load(asked.exported, backend=asked.backend)
for style in map(Path, asked.styles):
    started = time.perf_counter()
    pipeline.set_pair(find_lora(asked.content), find_lora(style))
    swapped = time.perf_counter() - started
    picture = pipeline.generate(asked.prompt.format(style.stem), steps=asked.steps, seed=0)
    picture.save(f"{style.stem}.png")
    print(f"{style.stem}.png: swapped in {swapped * 1e3:.1f} ms")
