"""LoRA files, good and bad, with what `load_lora` makes of each, for the app's tests."""

import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lorarar import LorararError, load_lora, save_lora
from lorarar.bases import BASES, layer_shapes
from lorarar.embedded import HYPERNET, LORAS
from lorarar.files import write_safetensors
from lorarar.hypernet import load_hypernet
from lorarar.layer import KEPT
from lorarar.lora import Feature, Lora
from lorarar.prepare import LEVELS, prepare
from lorarar.standin import standin_lora

from . import names
from .vectors_bad_loras import bad_files

TESTS = Path(__file__).parents[2] / "tests"
FUZZED, MUTATED, LARGEST = 400, 400, 300_000  # files, files, bytes


def write(folder: Path) -> None:
    """Write `loras/names.json`, `loras/verdicts.json` and the files that it speaks of."""
    folder = folder / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    names.write(folder / "names.json")
    sys.path.insert(0, str(TESTS))
    try:
        for make in (_namings, _saved, _prepared, _every_short_float, _fuzzed, bad_files, _mutated):
            make(folder)
    finally:
        sys.path.remove(str(TESTS))
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    verdicts = [
        {"file": file.relative_to(folder).as_posix(), **verdict}
        for file in files
        if file.suffix != ".json" and (verdict := _verdict(file, folder))
    ]
    (folder / "verdicts.json").write_text(json.dumps(verdicts))


def _verdict(file: Path, folder: Path) -> dict[str, Any] | None:
    """None where Python stumbles: then there is nothing to be equal to."""
    try:
        lora = load_lora(file)
    except LorararError as error:
        return {"message": str(error).replace(str(folder), "{folder}")}
    except TypeError:  # of tensors that are lists in the header, which the library lets pass
        return None
    return {
        "message": None,
        "notes": lora.notes,
        "bases": lora.bases,
        "metadata": lora.metadata,
        "layers": {
            name: {
                "up": _told(np.asarray(layer.up)),
                "down": _told(np.asarray(layer.down)),
                "scale": layer.scale,
            }
            for name, layer in lora.layers.items()
        },
        "prepared": _told_prepared(lora),
    }


def _told_prepared(lora: Lora) -> dict[str, Any] | None:
    if lora.prepared is None:
        return None
    about = lora.prepared
    return {
        "role": about.role,
        "level": about.level,
        "fingerprint": about.fingerprint,
        "error": about.error,
        "features": {name: _told_feature(kept) for name, kept in about.features.items()},
    }


def _told_feature(kept: Feature) -> dict[str, Any]:
    values = kept.values.astype(np.float32)
    told = _told(values if kept.scales is None else values * kept.scales)
    return told | {"dtype": kept.values.dtype.name}


def _told(array: np.ndarray) -> dict[str, Any]:
    """A factor as a matrix in float32, by its hash; every NaN counts as the same."""
    with np.errstate(over="ignore", invalid="ignore"):
        wide = array.astype("<f4").reshape(len(array), -1)
    wide[np.isnan(wide)] = np.nan
    digest = hashlib.sha256(wide.tobytes()).hexdigest()
    return {"shape": wide.shape, "dtype": array.dtype.name, "sha256": digest}


def _namings(folder: Path) -> None:
    """Every naming of the project's own tests, with dtypes and forms of alpha in turn."""
    import test_lora_kinds as kinds

    generator = np.random.default_rng(0)
    dtypes, alphas = list(kinds.DTYPES.values()), list(kinds.ALPHAS.values())
    for index, (naming, name) in enumerate(kinds.NAMINGS.items()):
        base = "sdxl" if index % 10 == 0 else [*BASES][index % len(BASES)]
        base = base if index % 10 < 2 else "mini"  # the others' files are large
        wanted = {kinds.layer_of(kind, base, index) for kind in kinds.KINDS[index % 3 :: 3]}
        tensors: dict[str, np.ndarray] = {}
        for layer in sorted(wanted | {kinds.layer_of("attn2.to_k", base, index)}):
            shape = layer_shapes(BASES[base])[layer]
            pair = [dtypes[index % len(dtypes)], dtypes[index // 7 % len(dtypes)]]
            down, up = kinds.factors(shape, 1 + index % 4, pair, generator, bool(index % 2))
            down_name, up_name = name(layer, BASES[base])
            tensors |= {down_name: down, up_name: up}
            alpha = alphas[index % len(alphas)](1 + index % 8)
            if alpha is not None:
                layer_name = up_name.removesuffix(".weight").rpartition("lora")[0][:-1]
                tensors[f"{layer_name}.alpha"] = alpha
        write_safetensors(folder / f"naming-{index}.safetensors", tensors, {"naming": naming}, True)


def _saved(folder: Path) -> None:
    """What lorarar writes, of each base; and the embedded LoRAs."""
    for base in BASES:
        lora = standin_lora(base, 1, seed=0)
        few = Lora(dict([*lora.layers.items()][::20]), lora.metadata)
        for saved, what in ((few, "some"), (lora, "all")):
            save_lora(saved, folder / f"{base}-{what}.safetensors", force=True)
            save_lora(saved, folder / f"{base}-{what}-kohya.safetensors", "kohya", force=True)
    for lora_file in LORAS.glob("*.safetensors"):
        (folder / f"embedded-{lora_file.name}").write_bytes(lora_file.read_bytes())


def _prepared(folder: Path) -> None:
    lora, hypernet = standin_lora("mini", 2, seed=0), load_hypernet(HYPERNET)
    for index, level in enumerate(LEVELS):
        for role in ("content", "style"):
            kept = prepare(lora, hypernet, role, level)
            scaled = {
                name: layer._replace(scale=0.5 + index) for name, layer in kept.layers.items()
            }
            kept.layers.update(scaled)
            save_lora(kept, folder / f"prepared-{level}-{role}.safetensors", force=True)


def _every_short_float(folder: Path) -> None:
    """Every number of every dtype of 8 and 16 bits."""
    from lorarar.files import DTYPES

    layer = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    for code, dtype in DTYPES.items():
        rank, bits = (3, np.uint8) if dtype.itemsize == 1 else (683, np.uint16)
        if dtype.itemsize > 2 or (dtype not in KEPT and "float8" not in dtype.name):
            continue
        numbers = np.arange(rank * 96, dtype=np.int64).astype(bits).view(dtype)
        tensors = {
            f"{layer}.lora_A.weight": numbers.reshape(rank, 96),
            f"{layer}.lora_B.weight": numbers.reshape(96, rank),
        }
        write_safetensors(folder / f"every-{code}.safetensors", tensors, {}, True)


def _fuzzed(folder: Path) -> None:
    """The fuzzer's corpus, and more of its kind."""
    from fuzz.lora_files import Choices, make_file

    generator = random.Random(0)
    inputs = [file.read_bytes() for file in sorted((TESTS / "fuzz" / "corpus").iterdir())]
    inputs += [generator.randbytes(generator.randrange(40, 300)) for _ in range(FUZZED)]
    for index, data in enumerate(inputs):
        content = make_file(Choices(data))
        if len(content) <= LARGEST:
            (folder / f"fuzzed-{index}.safetensors").write_bytes(content)


def _mutated(folder: Path) -> None:
    """A small file with a few bytes of its header, or of what follows, changed."""
    content = (folder / "mini-some-kohya.safetensors").read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    generator = random.Random(1)
    for index in range(MUTATED):
        (folder / f"mutated-{index}.safetensors").write_bytes(
            _mutation(content, generator.choice([8, size, len(content)]), generator)
        )


def _mutation(content: bytes, until: int, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 5])):
        at = generator.randrange(until)
        digit = generator.choice(b'0123456789{}[]",:.eE-_ \\unFBI')
        change = generator.choice(["replace", "byte", "remove", "insert", "flip"])
        if change == "remove":
            del changed[at]
        elif change == "insert":
            changed.insert(at, digit)
        elif at < len(changed):
            new = {"replace": digit, "byte": generator.randrange(256), "flip": changed[at] ^ 1}
            changed[at] = new[change]
    return bytes(changed)
