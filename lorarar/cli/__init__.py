"""The command line: parse, call the library, print."""

import time
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lorarar.cli.device import device
from lorarar.cli.training import Force, Kind, Model, Output, Precision, training
from lorarar.command import run_app
from lorarar.embedded import find_lora
from lorarar.errors import LorararError
from lorarar.files import refuse_existing, write_atomically
from lorarar.hypernet import load_hypernet
from lorarar.lora import load_lora
from lorarar.merge import coefficients as predict
from lorarar.merge_files import merge_files
from lorarar.methods import METHODS
from lorarar.mini.demo_exports import exported_beside
from lorarar.prepare import LEVELS
from lorarar.prepare import prepare as prepare_lora
from lorarar.save import LAYOUTS, save_lora
from lorarar.summary import norm, overview

cli = typer.Typer(no_args_is_help=True, add_completion=False)
cli.add_typer(training)
cli.add_typer(device)
console = Console()
say = partial(console.print, markup=False, highlight=False, soft_wrap=True)

Method = StrEnum("Method", {name: name for name in METHODS})  # type: ignore[misc]
DrawingMethod = StrEnum("DrawingMethod", {n: n for n in (*METHODS, "klora")})  # type: ignore[misc]
Layout = StrEnum("Layout", {name: name for name in LAYOUTS})  # type: ignore[misc]
Level = StrEnum("Level", {name: name for name in LEVELS})  # type: ignore[misc]

HypernetPath = Annotated[Path, typer.Option(help="LoRA.rar checkpoint (.safetensors or .pth)")]
Format = Annotated[Layout, typer.Option("--format", help="names and metadata of the output")]


@cli.command()
def merge(
    content: Path,
    style: Path,
    output: Output,
    hypernet: Annotated[
        Path | None, typer.Option(help="LoRA.rar checkpoint (.safetensors or .pth)")
    ] = None,
    method: Method = Method["lorarar"],
    rank: Annotated[int | None, typer.Option(min=1, help="reduce to this rank")] = None,
    layout: Format = Layout["diffusers"],
    content_scale: float = 1.0,
    style_scale: float = 1.0,
    density: Annotated[float, typer.Option(min=0, max=1, help="ties, dare: share kept")] = 0.5,
    seed: Annotated[int, typer.Option(help="dare, ziplora")] = 0,
    model: Model = None,
    precision: Precision = Precision["no"],
    force: Force = False,
) -> None:
    """Merge a content LoRA and a style LoRA (plain or prepared) into one file."""
    if method == "ziplora":
        _draw_images_for_ziplora(content, style)
    report = merge_files(
        content,
        style,
        output,
        hypernet if method == "lorarar" else None,
        method.value,
        rank,
        layout.value,
        force,
        content_scale=content_scale,
        style_scale=style_scale,
        density=density,
        seed=seed,
        model=model,
        precision=precision.value,
    )
    if report.rank_error is not None:
        say(f"reduced to rank {rank}: relative error {report.rank_error:.2e}")
    say(f"{output}: {report.layers} layers merged in {report.seconds * 1e3:.0f} ms")


def _draw_images_for_ziplora(*loras: Path) -> None:
    from lorarar.mini.pictures import draw_images_beside

    draw_images_beside(loras)


@cli.command()
def generate(
    content: Annotated[str, typer.Option(help="LoRA file, or an embedded one's name")],
    style: Annotated[str, typer.Option(help="LoRA file, or an embedded one's name")],
    prompt: Annotated[str, typer.Option()],
    output: Output,
    model: Model = None,
    hypernet: Annotated[
        Path | None, typer.Option(help="LoRA.rar checkpoint; the embedded one by default")
    ] = None,
    method: DrawingMethod = DrawingMethod["lorarar"],
    seed: int = 0,
    steps: Annotated[int, typer.Option(min=1)] = 20,
    guidance: float = 5.0,
    precision: Precision = Precision["no"],
    exported: Annotated[
        Path | None, typer.Option(help="draw with this exported pipeline, without torch")
    ] = None,
    backend: Annotated[str, typer.Option(help="with --exported")] = "onnxruntime",
    force: Force = False,
) -> None:
    """Merge a content and a style LoRA and draw a prompt with both."""
    refuse_existing(output, force)
    if exported:
        if model or hypernet or precision != "no":
            raise LorararError(
                "--exported has its own model, precision and hypernetwork; drop the others"
            )
        from lorarar.runtime.pipeline import Pipeline

        pipeline = Pipeline.load(exported, backend)
        started = time.perf_counter()
        pipeline.set_pair(find_lora(content), find_lora(style), method=method.value)
        seconds = time.perf_counter() - started
        picture = pipeline.generate(prompt, None, steps, guidance, seed)
        write_atomically(output, lambda file: picture.save(file, "PNG"), force)
        say(f"{output}: drawn on {backend}, {method.value} swapped in {seconds * 1e3:.1f} ms")
        return
    from lorarar.diffusion.generate import generate
    from lorarar.diffusion.pipeline import save_picture

    if method == "ziplora":
        _draw_images_for_ziplora(find_lora(content), find_lora(style))
    drawn = generate(
        content,
        style,
        prompt,
        model,
        hypernet=hypernet,
        method=method.value,
        seed=seed,
        steps=steps,
        guidance=guidance,
        precision=precision.value,
    )
    save_picture(drawn.picture, output, force)
    say(f"{output}: drawn with {method.value}, merged in {drawn.merge_seconds * 1e3:.1f} ms")


@cli.command()
def prepare(
    file: Path,
    output: Output,
    hypernet: HypernetPath,
    role: Annotated[Kind, typer.Option(help="what the LoRA will be merged as")],
    level: Level = Level["full-fp16"],
    force: Force = False,
) -> None:
    """Compute one LoRA's half of the hypernetwork once, for instant merges later."""
    prepared = prepare_lora(load_lora(file), load_hypernet(hypernet), role.value, level.value)
    save_lora(prepared, output, force=force)
    facts = overview(load_lora(output))
    say(f"{output}: prepared {facts['prepared']}, {facts['size']}")


@cli.command()
def coefficients(
    content: Path,
    style: Path,
    hypernet: HypernetPath,
    plot: Annotated[Path | None, typer.Option(help="draw them into this PNG")] = None,
    force: Force = False,
) -> None:
    """Show the coefficients that the hypernetwork predicts for a pair."""
    m = predict(load_lora(content), load_lora(style), load_hypernet(hypernet))
    if plot:
        from lorarar.plot import plot_coefficients

        plot_coefficients(m, plot, force)
        say(f"{plot}: coefficients of {len(m)} layers")
        return
    table = Table("layer", "mean m_c", "deviation", "mean m_s", "deviation")
    for name, (m_c, m_s) in m.items():
        table.add_row(name, *(f"{x:.4f}" for v in (m_c, m_s) for x in (v.mean(), v.std())))
    console.print(table)


@cli.command()
def convert(
    file: Path, output: Output, layout: Format = Layout["diffusers"], force: Force = False
) -> None:
    """Rewrite a LoRA in one layout, alpha folded in; the default is the canonical one."""
    lora = load_lora(file)
    save_lora(lora, output, layout.value, force)
    say(f"{output}: {len(lora.layers)} layers")


@cli.command()
def inspect(
    file: Path,
    layers: Annotated[bool, typer.Option("--layers", help="every layer, with its norm")] = False,
) -> None:
    """Show a LoRA's base model, layers, ranks, dtype, size and metadata (reads the header only)."""
    lora = load_lora(file)
    for fact, value in overview(lora).items():
        say(f"{fact}: {value}")
    for key, value in lora.metadata.items():
        say(f"{key}: {value}")
    if layers:
        table = Table("layer", "out x in", "rank", "alpha / rank", "|dW|")
        for name, layer in lora.layers.items():
            out, width = layer.shape
            table.add_row(
                name, f"{out}x{width}", str(layer.rank), f"{layer.scale:g}", f"{norm(layer):.3g}"
            )
        console.print(table)


@cli.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("lorarar-demo.png"),
    force: Force = False,
) -> None:
    """Merge LoRAs that the embedded hypernetwork has never seen, and draw them.

    Meanwhile export the model, then draw from what was exported, too.
    """
    engines = output.with_stem(f"{output.stem}-engines")
    for path in (output, engines):
        refuse_existing(path, force)
    with exported_beside("executorch") as slow:
        from lorarar.mini.demo import run_demo, run_engines

        run_demo(output, force, console)
        with exported_beside("onnxruntime") as quick:
            run_engines([quick, slow], engines, force, console)


def app() -> None:
    """Run a command of `lorarar`."""
    run_app(cli)
