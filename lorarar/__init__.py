"""Merge a content and a style LoRA with the LoRA.rar hypernetwork (arXiv 2412.05148)."""

from lorarar.errors import LorararError
from lorarar.hypernet import Hypernet, load_hypernet, save_hypernet
from lorarar.lora import Layer, Lora, load_lora
from lorarar.merge import coefficients, reduce_rank, weighted_sum
from lorarar.methods import merge
from lorarar.prepare import prepare
from lorarar.save import save_lora

__all__ = [
    "Hypernet",
    "Layer",
    "Lora",
    "LorararError",
    "coefficients",
    "load_hypernet",
    "load_lora",
    "merge",
    "prepare",
    "reduce_rank",
    "save_hypernet",
    "save_lora",
    "weighted_sum",
]
