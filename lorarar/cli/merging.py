"""The command line's commands on LoRA files and hypernetworks."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lorarar.cli.options import (
    ContentPrompt,
    HypernetPath,
    MergeChoice,
    Model,
    Mu,
    Output,
    Refine,
    StylePrompt,
    refine_options,
    say,
    say_notes,
    ziplora_for,
)
from lorarar.command import Force, console
from lorarar.files import refuse_existing
from lorarar.hypernet import Role, load_hypernet, save_hypernet
from lorarar.lora import load_lora
from lorarar.merge import coefficients as predict
from lorarar.merge_files import merge_files
from lorarar.methods import MethodName
from lorarar.methods.options import MergeKeywords, MergeOptions, Method, Precision
from lorarar.prepare import Level
from lorarar.prepare import prepare as prepare_lora
from lorarar.save import Layout, save_lora, usual_layout
from lorarar.summary import norm, overview

commands = typer.Typer()

LayoutOption = Annotated[
    Layout | None,
    typer.Option(
        "--format",
        help="names of the output; kohya: all tools read it; diffusers: not ComfyUI nor A1111. "
        "By default kohya for SDXL's .safetensors, else diffusers",
    ),
]


@commands.command()
def merge(
    content: Path,
    style: Path,
    output: Output,
    hypernet: Annotated[
        Path | None, typer.Option(help="LoRA.rar checkpoint (.safetensors or .pth)")
    ] = None,
    method: MergeChoice = "lorarar",
    rank: Annotated[int | None, typer.Option(min=1, help="reduce to this rank")] = None,
    layout: LayoutOption = None,
    content_scale: float = 1.0,
    style_scale: float = 1.0,
    density: Annotated[float, typer.Option(min=0, max=1, help="ties, dare: share kept")] = 0.5,
    mu: Mu = MergeOptions.mu,
    refine: Refine = 0,
    content_prompt: ContentPrompt = None,
    style_prompt: StylePrompt = None,
    seed: Annotated[int, typer.Option(help="dare, ziplora, --refine")] = 0,
    model: Model = None,
    precision: Precision = "no",
    force: Force = False,
) -> None:
    """Merge a content LoRA and a style LoRA (plain or prepared) into one file."""
    options: MergeKeywords = {
        "content_scale": content_scale,
        "style_scale": style_scale,
        "density": density,
        "mu": mu,
        "seed": seed,
        "model": model,
        "precision": precision,
    }
    chosen: MethodName | Method
    if refine:
        from lorarar.training.refine import refined

        options |= refine_options((content, style), method, refine, content_prompt, style_prompt)
        chosen = refined
    else:
        chosen = ziplora_for(content, style) if method == "ziplora" else method
    report = merge_files(
        content,
        style,
        output,
        hypernet=hypernet if method == "lorarar" else None,
        method=chosen,
        rank=rank,
        layout=layout,
        force=force,
        **options,
    )
    say_notes(report.notes)
    if report.rank_error is not None:
        say(f"reduced to rank {rank}: relative error {report.rank_error:.2e}")
    say(f"{output}: {report.layers} layers merged in {report.seconds * 1e3:.0f} ms")


@commands.command()
def prepare(
    file: Path,
    output: Output,
    hypernet: HypernetPath,
    role: Annotated[Role, typer.Option(help="what the LoRA will be merged as")],
    level: Level = "full-fp16",
    force: Force = False,
) -> None:
    """Compute one LoRA's half of the hypernetwork once, for instant merges later."""
    prepared = prepare_lora(load_lora(file), load_hypernet(hypernet), role, level)
    save_lora(prepared, output, force=force)
    facts = overview(load_lora(output))
    say(f"{output}: prepared {facts['prepared']}, {facts['size']}")


@commands.command()
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


@commands.command()
def convert(
    file: Path,
    output: Output,
    layout: LayoutOption = None,
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
    in_all = ""
    if rank:
        from lorarar.lora_convert import convert_lora

        conversion = convert_lora(file, rank, model)
        for name, error in conversion.errors.items():
            say(f"{name}: relative error {error:.2e}")
        lora, in_all = conversion.lora, f", relative error {conversion.error:.2e}"
    else:
        lora = load_lora(file)
    say_notes(f"{file}: {note}" for note in lora.notes)
    save_lora(lora, output, layout or usual_layout(lora, output), force)
    say(f"{output}: {len(lora.layers)} layers{in_all}")


@commands.command("convert-hypernet")
def convert_hypernet(file: Path, output: Output, force: Force = False) -> None:
    """Rewrite a published hypernet.pth as safetensors, which needs no torch to be read."""
    hypernet = load_hypernet(file)
    save_hypernet(hypernet, output, force)
    widths = " and ".join(map(str, sorted(hypernet.inputs)))
    say(f"{output}: a hypernetwork for layers {widths} wide, {hypernet.hidden} hidden features")


@commands.command()
def inspect(
    file: Path,
    layers: Annotated[bool, typer.Option("--layers", help="every layer, with its norm")] = False,
) -> None:
    """Show a LoRA's base model, layers, ranks, dtype, size and metadata (reads the header only)."""
    lora = load_lora(file)
    say_notes(f"{file}: {note}" for note in lora.notes)
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
