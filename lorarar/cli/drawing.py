"""The command line's commands that draw."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

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
    say_notes,
    ziplora_for,
)
from lorarar.command import Force, console
from lorarar.embedded import NAME, find_lora
from lorarar.errors import LorararError
from lorarar.files import refuse_existing, write_atomically
from lorarar.methods import DeviceMethod, DrawingMethod
from lorarar.methods.options import PRECISIONS, Method, Precision

if TYPE_CHECKING:  # which takes time, and not every command draws
    from lorarar.runtime.request import DrawRequest
    from lorarar.runtime.samplers import Sampler

commands = typer.Typer()

LoraName = Annotated[str, typer.Option(help="LoRA file, or an embedded one's name")]
Scale = Annotated[float, typer.Option(min=0, max=2)]
Side = Annotated[int, typer.Option(min=0, help="in pixels; 0: the model's own")]


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
    content_scale: Scale = 1.0,
    style_scale: Scale = 1.0,
    refine: Refine = 0,
    content_prompt: ContentPrompt = None,
    style_prompt: StylePrompt = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="what guidance leads away from")
    ] = None,
    seed: Annotated[int, typer.Option(min=-1, help="-1: any, which is said")] = 0,
    steps: Positive = 20,
    guidance: float = 5.0,
    sampler: Annotated[
        str | None, typer.Option(help="with --exported; else the model's own draws")
    ] = None,
    width: Side = 0,
    height: Side = 0,
    precision: Precision = "no",
    exported: Annotated[
        Path | None, typer.Option(help="draw with this exported pipeline, without torch")
    ] = None,
    backend: Annotated[Engine, typer.Option(help="with --exported")] = "onnxruntime",
    force: Force = False,
) -> None:
    """Merge a content and a style LoRA and draw a prompt with both.

    The picture's file says what drew it, and lorarar serve reads that.
    """
    refuse_existing(output, force)
    pair = find_lora(content), find_lora(style)
    if seed == -1:
        from lorarar.runtime.request import any_seed

        seed = any_seed()
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
        from lorarar.runtime.request import DrawRequest

        request = DrawRequest(
            prompt=prompt,
            negative_prompt=negative_prompt,
            method=cast(DeviceMethod, method),  # others are refused, with what to do instead
            content_scale=content_scale,
            style_scale=style_scale,
            steps=steps,
            guidance=guidance,
            seed=seed,
            width=width,
            height=height,
        )
        if sampler:
            request = replace(request, sampler=cast("Sampler", sampler))  # as with the method
        _draw_exported(exported, backend, pair, request, output, force)
        return
    if sampler:
        raise LorararError(
            "--sampler is for --exported; without it the model's own scheduler draws"
        )
    from lorarar.artefacts.picture import PictureFacts, save_png
    from lorarar.diffusion.generate import generate
    from lorarar.diffusion.pipeline import to_image
    from lorarar.runtime.request import lora_facts

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
        negative_prompt=negative_prompt,
        width=width or None,
        height=height or None,
        content_scale=content_scale,
        style_scale=style_scale,
        precision=precision,
    )
    picture = to_image(drawn.picture)
    how = f"{method}, refined in {refine} steps" if refine else method
    facts = PictureFacts(
        prompt=prompt,
        negative_prompt=negative_prompt,
        content=lora_facts(pair[0], content_scale),
        style=lora_facts(pair[1], style_scale),
        method=how,
        seed=seed,
        steps=steps,
        guidance=guidance,
        sampler=drawn.sampler,
        width=picture.width,
        height=picture.height,
        model=f"{model or NAME}, {PRECISIONS[precision]}",
        model_identity=None,
    )
    write_atomically(output, lambda file: save_png(picture, file, facts), force)
    say(f"{output}: drawn with {how}, merged in {drawn.merge_seconds * 1e3:.1f} ms")


def _draw_exported(
    folder: Path,
    backend: Engine,
    pair: tuple[Path, Path],
    asked: "DrawRequest",
    output: Path,
    force: bool,
) -> None:
    from lorarar.artefacts.picture import save_png
    from lorarar.runtime.pipeline import Pipeline

    pipeline = Pipeline.load(folder, backend)
    request = asked.settled(pipeline)
    for path in pair:
        say_notes(f"{path}: {note}" for note in pipeline.check_lora(path))
    say_notes(request.notes(pipeline))
    started = time.perf_counter()
    request.merge(pipeline, *pair)
    seconds = time.perf_counter() - started
    facts = request.facts(pipeline, *pair)
    picture = request.picture(pipeline)
    write_atomically(output, lambda file: save_png(picture, file, facts), force)
    say(f"{output}: drawn on {backend}, {request.method} swapped in {seconds * 1e3:.1f} ms")


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
