"""The command line's commands that draw."""

import secrets
import time
from pathlib import Path
from typing import Annotated, cast

import typer

from lorarar.artefacts.formats import Engine
from lorarar.cli.options import (
    ContentPrompt,
    DrawingChoice,
    Model,
    Output,
    Positive,
    Refine,
    StylePrompt,
    refine_options,
    refined_with,
    say,
    ziplora_for,
)
from lorarar.command import Force, console
from lorarar.embedded import find_lora
from lorarar.errors import LorararError
from lorarar.files import refuse_existing, write_atomically
from lorarar.methods import DeviceMethod, DrawingMethod
from lorarar.methods.options import Method, Precision

commands = typer.Typer()

LoraName = Annotated[str, typer.Option(help="LoRA file, or an embedded one's name")]


@commands.command()
def generate(
    content: LoraName,
    style: LoraName,
    prompt: Annotated[str, typer.Option()],
    output: Output,
    model: Model = None,
    hypernet: Annotated[
        Path | None, typer.Option(help="LoRA.rar checkpoint; the embedded one by default")
    ] = None,
    method: DrawingChoice = "lorarar",
    refine: Refine = 0,
    content_prompt: ContentPrompt = None,
    style_prompt: StylePrompt = None,
    seed: Annotated[int, typer.Option(min=-1, help="-1: any, which is said")] = 0,
    steps: Positive = 20,
    guidance: float = 5.0,
    precision: Precision = "no",
    exported: Annotated[
        Path | None, typer.Option(help="draw with this exported pipeline, without torch")
    ] = None,
    backend: Annotated[Engine, typer.Option(help="with --exported")] = "onnxruntime",
    force: Force = False,
) -> None:
    """Merge a content and a style LoRA and draw a prompt with both."""
    refuse_existing(output, force)
    if seed == -1:
        seed = secrets.randbelow(2**31)
        say(f"seed {seed}")
    if exported:
        if model or hypernet or precision != "no":
            raise LorararError(
                "--exported has its own model, precision and hypernetwork; drop the others"
            )
        if refine:
            raise LorararError(
                "--refine needs gradients, which --exported has not; run lorarar merge --refine "
                f"{refine} -o merged.safetensors and draw with that"
            )
        from lorarar.runtime.pipeline import Pipeline

        pipeline = Pipeline.load(exported, backend)
        wanted = cast(DeviceMethod, method)  # the pipeline refuses others, and says what to do
        started = time.perf_counter()
        pipeline.set_pair(find_lora(content), find_lora(style), method=wanted)
        seconds = time.perf_counter() - started
        picture = pipeline.generate(prompt, steps=steps, guidance=guidance, seed=seed)
        write_atomically(output, lambda file: picture.save(file, "PNG"), force)
        say(f"{output}: drawn on {backend}, {method} swapped in {seconds * 1e3:.1f} ms")
        return
    from lorarar.diffusion.generate import generate
    from lorarar.diffusion.pipeline import save_picture

    pair = find_lora(content), find_lora(style)
    chosen: DrawingMethod | Method
    if refine:
        refining = refine_options(pair, method, refine, content_prompt, style_prompt)
        chosen = refined_with(refining | {"seed": seed})
    else:
        chosen = ziplora_for(*pair) if method == "ziplora" else method
    drawn = generate(
        *pair,
        prompt,
        model=model,
        hypernet=hypernet,
        method=chosen,
        seed=seed,
        steps=steps,
        guidance=guidance,
        precision=precision,
    )
    save_picture(drawn.picture, output, force)
    how = f"{method}, refined in {refine} steps" if refine else method
    say(f"{output}: drawn with {how}, merged in {drawn.merge_seconds * 1e3:.1f} ms")


@commands.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("lorarar-demo.png"),
    force: Force = False,
) -> None:
    """Merge LoRAs that the embedded hypernetwork has never seen, and draw them.

    Meanwhile export the model, then draw from what was exported, too.
    """
    from lorarar.mini.demo_exports import exported_beside

    engines = output.with_stem(f"{output.stem}-engines")
    for path in (output, engines):
        refuse_existing(path, force)
    with exported_beside("executorch") as slow:
        from lorarar.mini.demo import run_demo, run_engines

        run_demo(output, force, console)
        with exported_beside("onnxruntime") as quick:
            run_engines([quick, slow], engines, force, console)
