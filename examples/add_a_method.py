"""Add a merge method: a function of two LoRAs and options, given to `merge`.

This one makes the style LoRA as strong as the content LoRA, layer by layer, before both are added:
dW = dW_c + (|dW_c| / |dW_s|) dW_s, in the Frobenius norm.

python examples/add_a_method.py dog.safetensors watercolor.safetensors -o balanced.safetensors
"""

import argparse
from dataclasses import replace

from lorarar import Lora, load_lora, merge, save_lora, weighted_sum
from lorarar.methods.options import MergeOptions
from lorarar.summary import norm


def balanced(content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """The sum of both, equally strong in each layer that both have. Rank r_c + r_s, exact."""
    layers = dict(style.layers)
    for name in content.layers.keys() & style.layers.keys():
        strength = norm(content.layers[name]) / (norm(layers[name]) or 1)
        layers[name] = layers[name]._replace(scale=layers[name].scale * strength)
    style = replace(style, layers=layers)
    return weighted_sum(
        content, style, {}, content_scale=options.content_scale, style_scale=options.style_scale
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("content")
    parser.add_argument("style")
    parser.add_argument("-o", "--output", default="balanced.safetensors")
    asked = parser.parse_args()
    merged = merge(load_lora(asked.content), load_lora(asked.style), balanced)
    save_lora(merged, asked.output)
