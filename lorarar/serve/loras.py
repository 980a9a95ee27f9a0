"""The LoRAs that the page offers: a folder's, and those that were dropped on it."""

from collections.abc import AsyncIterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from starlette.concurrency import run_in_threadpool

from lorarar.artefacts.training import Entry, read_manifest
from lorarar.errors import LorararError
from lorarar.hypernet import ROLES, Role
from lorarar.runtime.pipeline import Pipeline
from lorarar.runtime.slots import open_lora

LARGEST = 2 * 10**9  # bytes of an uploaded file
LONGEST = 200  # bytes of its name
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class OfferedLora:
    """kinds: the lists that show it; prompt: of the LoRA alone, "a zupra dog"; phrase: what a style
    LoRA adds, "in ink style"; notes: what of it takes no part, a line each."""

    file: Path
    kinds: tuple[Role, ...] = ROLES
    prompt: str = ""
    phrase: str = ""
    notes: tuple[str, ...] = ()


def list_loras(folder: Path | None, uploads: Path) -> dict[str, OfferedLora]:
    """Map names to choices; kinds and prompts are the manifest's, for what it names.

    What has no proper name is left out, and told by `left_out`; files are not looked at.

    Raises LorararError if `folder` does not exist.
    """
    choices = []
    if folder:
        if not folder.is_dir():
            raise LorararError(f"{folder}: is no folder; give one of LoRA files")
        choices = [
            OfferedLora(entry.file, (entry.kind,), entry.prompt, entry.phrase)
            for entry in _manifest(folder)[0]
            if entry.file.exists()
        ]
        named = {choice.file for choice in choices}
        choices += [OfferedLora(file) for file in _files(folder) if file not in named]
    choices += [OfferedLora(file) for file in _files(uploads)]
    return {choice.file.stem: choice for choice in choices}


def left_out(folder: Path) -> list[str]:
    """Say what of a folder the page does not offer, or not as it was meant, a line each."""
    _, trouble = _manifest(folder)
    said = [f"{trouble}; its LoRAs are in both lists"] if trouble else []
    nameless = sum(not _has_proper_name(file) for file in folder.glob(f"*{SUFFIX}"))
    if nameless:
        said.append(f"{folder}: left out {nameless} files whose names are no UTF-8; rename them")
    return said


def _manifest(folder: Path) -> tuple[tuple[Entry, ...], str]:
    """What a folder's manifest names, and what is wrong with it: other programs have one, too."""
    if not (folder / "manifest.json").exists():
        return (), ""
    try:
        return read_manifest(folder).loras, ""
    except LorararError as error:
        return (), str(error)


def _files(folder: Path) -> list[Path]:
    return sorted(filter(_has_proper_name, folder.glob(f"*{SUFFIX}")))


def _has_proper_name(file: Path) -> bool:
    """Whether the name can be told to a browser: Linux's may be any bytes."""
    return not any("\ud800" <= each <= "\udfff" for each in file.name)


async def keep_upload(
    name: str, chunks: AsyncIterable[bytes], uploads: Path, pipeline: Pipeline
) -> Path:
    """Write a file to `uploads`, in place of one of that name, once it is seen to fit `pipeline`.

    Raises LorararError if it is too large, no LoRA, for another base, or has no proper name.
    """
    _check_name(name)
    with TemporaryDirectory(dir=uploads) as folder:
        part = Path(folder, name)
        try:
            await _write(part, chunks)
            await run_in_threadpool(_check, part, pipeline)
            return part.replace(uploads / name)
        except OSError as error:
            raise LorararError(f"{name}: cannot be kept ({error.strerror})") from error
        except LorararError as error:
            raise LorararError(str(error).replace(str(part), name)) from error


def _check_name(name: str) -> None:
    proper = name.isprintable() and not name.startswith(".") and not {"/", "\\"} & {*name}
    if not proper or len(name.encode()) > LONGEST or not name.endswith(SUFFIX):
        raise LorararError(f"{name[:LONGEST]!r}: is no name of a LoRA; rename it to NAME{SUFFIX}")


async def _write(part: Path, chunks: AsyncIterable[bytes]) -> None:
    size = 0
    async with await anyio.open_file(part, "wb") as file:
        async for chunk in chunks:
            size += len(chunk)
            if size > LARGEST:
                raise LorararError(
                    f"{part}: is over {LARGEST / 1e9:g} GB; put it into the folder of --loras"
                )
            await file.write(chunk)


def _check(part: Path, pipeline: Pipeline) -> None:
    open_lora(part, pipeline.manifest, str(pipeline.folder), mapped=True)
