"""The command line: parse, call the library, print."""

import sys
import tempfile
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lorarar.errors import LorararError
from lorarar.files import sha256
from lorarar.hypernet import Hypernet, load_hypernet, save_hypernet
from lorarar.lora import load_lora, save_lora
from lorarar.merge import coefficients, reduce_rank
from lorarar.merge import merge as merge_loras
from lorarar.standin import standin_lora

cli = typer.Typer(no_args_is_help=True, add_completion=False)
console = Console()


class Method(StrEnum):
    LORARAR = "lorarar"
    DIRECT = "direct"
    LINEAR = "linear"


@cli.command()
def merge(
    content: Path,
    style: Path,
    output: Annotated[Path, typer.Option("--output", "-o")],
    hypernet: Annotated[Path | None, typer.Option(help="LoRA.rar checkpoint")] = None,
    method: Method = Method.LORARAR,
    rank: Annotated[int | None, typer.Option(min=1, help="reduce to this rank")] = None,
    content_scale: float = 1.0,
    style_scale: float = 1.0,
    force: bool = False,
) -> None:
    """Merge a content LoRA and a style LoRA into one file."""
    if output.exists() and not force:
        raise LorararError(f"{output}: exists already; pass --force to replace it")
    pair = load_lora(content), load_lora(style)
    started = time.perf_counter()
    m = {}
    if method is Method.LORARAR:
        if hypernet is None:
            raise LorararError(
                "--method lorarar needs --hypernet: a LoRA.rar checkpoint (hypernet.pth) for the "
                "LoRAs' base model; without one use --method direct or linear"
            )
        m = coefficients(*pair, load_hypernet(hypernet))
    share = 0.5 if method is Method.LINEAR else 1.0
    merged = merge_loras(*pair, m, share * content_scale, share * style_scale)
    if rank:
        merged, error = reduce_rank(merged, rank)
        console.print(f"reduced to rank {rank}: relative error {error:.2e}")
    elapsed = time.perf_counter() - started
    inputs = {"content": content, "style": style}
    if method is Method.LORARAR and hypernet:
        inputs["hypernet"] = hypernet
    merged.metadata = {"lorarar.method": method.value}
    for role, file in inputs.items():
        merged.metadata[f"lorarar.{role}"] = file.name
        merged.metadata[f"lorarar.{role}.sha256"] = sha256(file)
    save_lora(merged, output, force)
    console.print(f"{output}: {len(merged.layers)} layers merged in {elapsed * 1e3:.0f} ms")


@cli.command()
def convert(
    file: Path,
    output: Annotated[Path, typer.Option("--output", "-o")],
    force: bool = False,
) -> None:
    """Rewrite a LoRA in the canonical layout: diffusers names, alpha folded into up."""
    lora = load_lora(file)
    save_lora(lora, output, force)
    console.print(f"{output}: {len(lora.layers)} layers")


@cli.command()
def inspect(file: Path) -> None:
    """Show a LoRA's layers, ranks, norms and metadata."""
    lora = load_lora(file)
    table = Table("layer", "out x in", "rank", "scale", "|up|", "|down|")
    for name, layer in lora.layers.items():
        table.add_row(
            name,
            f"{layer.up.shape[0]}x{layer.down.shape[1]}",
            str(layer.rank),
            f"{layer.scale:g}",
            f"{layer.up.float().norm():.3g}",
            f"{layer.down.float().norm():.3g}",
        )
    console.print(table)
    for key, value in lora.metadata.items():
        console.print(f"{key}: {value}", markup=False)


@cli.command()
def demo(base: str = "sdxl", rank: int = 64) -> None:
    """Merge two full-size stand-in LoRAs (random weights) from file to file."""
    with tempfile.TemporaryDirectory() as folder:
        content, style, net, out = (
            Path(folder) / name
            for name in (
                "standin-content.safetensors",
                "standin-style.safetensors",
                "untrained-hypernet.safetensors",
                "merged.safetensors",
            )
        )
        save_lora(standin_lora(base, rank, seed=1), content)
        save_lora(standin_lora(base, rank, seed=2), style)
        save_hypernet(Hypernet.random(), net)
        merge(content, style, out, net)


def app() -> None:
    """Run a command; bad input ends in one line on stderr and exit code 1."""
    try:
        cli()
    except LorararError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        sys.exit(1)
