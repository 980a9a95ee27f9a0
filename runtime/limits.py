"""What an exported folder can draw: its sizes, its lengths of prompts, its guidance."""

from lorarar.artefacts.pipeline import GUIDANCE_INPUT, PipelineManifest
from lorarar.errors import LorararError
from lorarar.runtime.backends import Tensors
from lorarar.runtime.conditioning import TEXT_INPUT, guidance_embedding


def unet_shape(manifest: PipelineManifest, name: str) -> list[int | None]:
    """Return the shape of one of the UNet's inputs, None where it takes any; [] if it has none."""
    for stage in manifest.parts["unet"]:
        if name in stage.inputs:
            return stage.inputs[name][1]
    return []


def takes_any_batch(manifest: PipelineManifest) -> bool:
    """Whether several texts can be drawn at once."""
    return unet_shape(manifest, "sample")[0] is None


def takes_any_tokens(manifest: PipelineManifest) -> bool:
    """Whether prompts may be of any length."""
    return unet_shape(manifest, TEXT_INPUT)[1] is None


def draws_any_size(manifest: PipelineManifest) -> bool:
    """Whether it draws other sizes than its own."""
    return None in unet_shape(manifest, "sample")[2:]


def size_unit(manifest: PipelineManifest) -> int:
    """What a picture's sides are multiples of, in pixels, as the UNet halves latents twice."""
    return 4 * manifest.pixels


def checked_size(
    manifest: PipelineManifest, size: tuple[int, int] | None, source: object
) -> tuple[int, int]:
    """Return (width, height) in pixels, the folder's own for None.

    Raises LorararError for one that it does not draw.
    """
    made = manifest.side * manifest.pixels
    width, height = size or (made, made)
    unit = size_unit(manifest)
    if width % unit or height % unit or min(width, height) < unit:
        raise LorararError(f"size {width}x{height}: must be multiples of {unit} pixels")
    if not draws_any_size(manifest) and (width, height) != (made, made):
        raise LorararError(f"{source}: draws {made}x{made} only; export it with --side")
    return width, height


def guidance_inputs(
    manifest: PipelineManifest, guidance: float, negative: str | None, source: object
) -> Tensors:
    """Return what the UNet takes in place of being guided, if it was distilled so, else nothing.

    Raises LorararError for a negative prompt, which such a model cannot heed.
    """
    shape = unet_shape(manifest, GUIDANCE_INPUT)
    if not shape:
        return {}
    if negative:
        raise LorararError(
            f"{source}: was distilled with its guidance, so it takes no negative prompt; "
            "leave it out"
        )
    *_, width = shape
    assert width is not None  # only the batch is dynamic
    return {GUIDANCE_INPUT: guidance_embedding(guidance, width)}
