"""Merge a content and a style LoRA into one file; numpy is enough.

python examples/merge_two_files.py dog.safetensors watercolor.safetensors \
    --hypernet hypernet.safetensors -o merged.safetensors
"""

import argparse

from lorarar import load_hypernet, load_lora, merge, reduce_rank, save_lora

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("content", help="a LoRA of a subject")
parser.add_argument("style", help="a LoRA of a style")
parser.add_argument("-o", "--output", default="merged.safetensors")
parser.add_argument("--hypernet", help="a LoRA.rar checkpoint; without one, the plain sum")
parser.add_argument("--style-scale", type=float, default=1.0, help="how much style")
parser.add_argument("--rank", type=int, help="a smaller file: reduce to this rank")
asked = parser.parse_args()

content, style = load_lora(asked.content), load_lora(asked.style)
if asked.hypernet:
    hypernet = load_hypernet(asked.hypernet)
    merged = merge(content, style, hypernet=hypernet, style_scale=asked.style_scale)
else:
    merged = merge(content, style, "direct", style_scale=asked.style_scale)
if asked.rank:
    merged, error = reduce_rank(merged, asked.rank)
    print(f"reduced to rank {asked.rank}, relative error {error:.2e}")
save_lora(merged, asked.output)
print(f"{asked.output}: {len(merged.layers)} layers of {merged.base}")
