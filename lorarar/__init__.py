"""Merge a content and a style LoRA with the LoRA.rar hypernetwork (arXiv 2412.05148)."""

from lorarar.errors import LorararError
from lorarar.hypernet import Hypernet
from lorarar.lora import Layer, Lora, load_lora, save_lora
from lorarar.merge import coefficients, merge, reduce_rank

__all__ = [
    "Hypernet",
    "Layer",
    "Lora",
    "LorararError",
    "coefficients",
    "load_lora",
    "merge",
    "reduce_rank",
    "save_lora",
]
