"""The command line: parse, call the library, print."""

import time
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lorarar.cli.device import device
from lorarar.cli.training import Force, Kind, Model, Output, Precision, training
from lorarar.command import run_app
from lorarar.embedded import find_lora
from lorarar.errors import LorararError, printable
from lorarar.files import refuse_existing, write_atomically
from lorarar.hypernet import load_hypernet
from lorarar.lora import load_lora
from lorarar.merge import coefficients as predict
from lorarar.merge_files import merge_files
from lorarar.methods import METHODS
from lorarar.mini.demo_exports import exported_beside
from lorarar.prepare import LEVELS
from lorarar.prepare import prepare as prepare_lora
from lorarar.save import LAYOUTS, save_lora, usual_layout
from lorarar.summary import norm, overview

cli = typer.Typer(no_args_is_help=True, add_completion=False)
cli.add_typer(training)
cli.add_typer(device)
console = Console()


def say(text: str, to: Console = console) -> None:
    to.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def warn(notes: Iterable[str]) -> None:
    for note in notes:
        say(f"note: {note}", Console(stderr=True))


Method = StrEnum("Method", {name: name for name in METHODS})  # type: ignore[misc]
DrawingMethod = StrEnum("DrawingMethod", {n: n for n in (*METHODS, "klora")})  # type: ignore[misc]
Layout = StrEnum("Layout", {name: name for name in LAYOUTS})  # type: ignore[misc]
Level = StrEnum("Level", {name: name for name in LEVELS})  # type: ignore[misc]

HypernetPath = Annotated[Path, typer.Option(help="LoRA.rar checkpoint (.safetensors or .pth)")]
Format = Annotated[
    Layout | None,
    typer.Option(
        "--format",
        help="names of the output; kohya: all tools read it; diffusers: not ComfyUI nor A1111. "
        "By default kohya for SDXL's .safetensors, else diffusers",
    ),
]


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
    layout: Format = None,
    content_scale: float = 1.0,
    style_scale: float = 1.0,
    density: Annotated[float, typer.Option(min=0, max=1, help="ties, dare: share kept")] = 0.5,
    seed: Annotated[int, typer.Option(help="dare, ziplora")] = 0,
    model: Model = None,
    precision: Precision = Precision["no"],
    force: Force = False,
) -> None:
    """Merge a content LoRA and a style LoRA (plain or prepared) into one file."""
    report = merge_files(
        content,
        style,
        output,
        hypernet if method == "lorarar" else None,
        method=method.value,
        rank=rank,
        layout=layout.value if layout else None,
        force=force,
        content_scale=content_scale,
        style_scale=style_scale,
        density=density,
        seed=seed,
        model=model,
        precision=precision.value,
    )
    warn(report.notes)
    if report.rank_error is not None:
        say(f"reduced to rank {rank}: relative error {report.rank_error:.2e}")
    say(f"{output}: {report.layers} layers merged in {report.seconds * 1e3:.0f} ms")


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

    drawn = generate(
        content,
        style,
        prompt,
        model,
        hypernet,
        method.value,
        seed,
        steps,
        guidance,
        precision.value,
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
    file: Path,
    output: Output,
    layout: Format = None,
    rank: Annotated[
        int | None,
        typer.Option(min=1, help="make a plain LoRA of LoHa, LoKr, DoRA or a full difference"),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="a DoRA's base: diffusers folder or checkpoint")
    ] = None,
    force: Force = False,
) -> None:
    """Rewrite a LoRA in one layout; with --rank, any adapter as a plain LoRA of this rank."""
    refuse_existing(output, force)
    if rank:
        from lorarar.lora_convert import convert_lora

        conversion = convert_lora(file, rank, model)
        for name, error in conversion.errors.items():
            say(f"{name}: relative error {error:.2e}")
        lora = conversion.lora
    else:
        lora = load_lora(file)
    warn(f"{file}: {note}" for note in lora.notes)
    save_lora(lora, output, layout.value if layout else usual_layout(lora, output), force)
    in_all = f", relative error {conversion.error:.2e}" if rank else ""
    say(f"{output}: {len(lora.layers)} layers{in_all}")


@cli.command()
def inspect(
    file: Path,
    layers: Annotated[bool, typer.Option("--layers", help="every layer, with its norm")] = False,
) -> None:
    """Show a LoRA's base model, layers, ranks, dtype, size and metadata (reads the header only)."""
    lora = load_lora(file)
    warn(f"{file}: {note}" for note in lora.notes)
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
