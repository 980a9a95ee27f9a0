"""The runner in C++ merges as Python does, and refuses what Python refuses, in one line."""

import hashlib
import json
import random
import subprocess
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from fuzz.lora_files import Choices, make_file

from lorarar import Hypernet, LorararError, load_hypernet, load_lora, save_lora
from lorarar.artefacts.merger import MergerManifest
from lorarar.bases import SHAPES
from lorarar.embedded import HYPERNET, LORAS
from lorarar.export.executorch.hypernet import export_hypernet
from lorarar.export.merge_graphs import example_inputs
from lorarar.files import read_safetensors, write_safetensors
from lorarar.lora import Layer, Lora
from lorarar.merge import coefficients, weighted_sum
from lorarar.prepare import LEVELS, prepare
from lorarar.runtime import load_merger
from lorarar.runtime.native.build import build
from lorarar.standin import standin_layers

pytestmark = pytest.mark.devices

CORPUS = Path(__file__).parent / "fuzz" / "corpus"
QEMU = ["qemu-aarch64", "-cpu", "cortex-a76", "-L", "/usr/aarch64-linux-gnu"]
PAIR = LORAS / "votol.safetensors", LORAS / "comic.safetensors"
ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0"
NARROW = [f"{ATTENTION}.attn1.to_q", f"{ATTENTION}.attn2.to_out.0", f"{ATTENTION}.attn1.to_k"]
WIDE = [name.replace("down_blocks.1", "down_blocks.2") for name in NARROW]
TEXT = "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def runner() -> list[str]:
    return [str(build())]


@pytest.fixture(scope="module")
def sanitized() -> list[str]:
    return [str(build(sanitize=True))]


@pytest.fixture(scope="module")
def merger(tmp_path_factory) -> Path:
    """The embedded hypernetwork for ExecuTorch."""
    path = tmp_path_factory.mktemp("merger") / "merger.pte"
    export_hypernet(load_hypernet(HYPERNET), path)
    return path


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory) -> tuple[Hypernet, Path]:
    """An untrained hypernetwork of SDXL's widths that predicts keys, too, and its export."""
    hypernet = Hypernet.random(hidden=32, predicts=("to_q", "to_out.0", "to_k"))
    name = f"unet.{NARROW[0]}"
    hypernet = replace(hypernet, offsets={name: np.full((2, 640), 0.25, np.float32)})
    path = tmp_path_factory.mktemp("sdxl") / "sdxl.pte"
    export_hypernet(hypernet, path)
    return hypernet, path


@pytest.fixture(scope="module")
def sdxl_pair() -> tuple[Lora, Lora]:
    """Few layers of SDXL: ranks, dtypes and scales differ, and each lacks a layer."""
    content = _layers([*NARROW, *WIDE[:2]], rank=5, seed=1, dtype=np.float16)
    style = _layers([*NARROW[:2], *WIDE], rank=3, seed=2, dtype=np.float32)
    first = f"unet.{NARROW[0]}"
    content[first] = content[first]._replace(scale=0.3)
    generator = np.random.default_rng(3)
    for layers, rank in ((content, 2), (style, 4)):
        up, down = (generator.standard_normal(s, np.float32) for s in ((1280, rank), (rank, 1280)))
        layers[TEXT] = Layer(up.astype(np.float16), down.astype(np.float16))
    return Lora(content), Lora(style)


def _layers(names: list[str], rank: int, seed: int, dtype: type) -> dict[str, Layer]:
    return standin_layers({name: SHAPES["sdxl"][name] for name in names}, rank, seed, dtype)


def run(runner: list[str], *arguments: object, code: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [*runner, *map(str, arguments)], capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == code, done.stderr
    return done


def measured(runner: list[str], *arguments: object, code: int = 0) -> dict:
    return json.loads(run(runner, *arguments, code=code).stdout)


def refused(runner: list[str], *arguments: object) -> str:
    done = run(runner, *arguments, code=2)
    assert not done.stdout and done.stderr.startswith("error: ")
    [line] = done.stderr.splitlines()
    return line


def assert_same_coefficients(written: Path, wanted: dict[str, np.ndarray]) -> None:
    found, _ = read_safetensors(written)
    assert found.keys() == {f"{name}.m" for name in wanted}
    for name, m in wanted.items():
        error = np.abs(found[f"{name}.m"] - m).max() / np.abs(m).max()
        assert error <= 1e-6, (name, error)


def assert_same_lora(found: Lora, wanted: Lora) -> None:
    assert found.layers.keys() == wanted.layers.keys()
    for name, layer in wanted.layers.items():
        for ours, theirs in zip(found.layers[name][:2], layer[:2], strict=True):
            ours, theirs = np.asarray(ours), np.asarray(theirs)
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            place = np.float64(2.0**-10 if ours.dtype == np.float16 else 2.0**-20)
            ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
            assert (np.abs(ours - theirs) <= place * np.abs(theirs) + 6e-8).all()


def test_plain_loras_get_the_coefficients_of_pythons_runtime(runner, merger, tmp_path):
    out = tmp_path / "m.safetensors"
    report = measured(runner, "merge", merger, *PAIR, "--only", "coefficients", "-o", out)
    pair = tuple(map(load_lora, PAIR))
    assert_same_coefficients(out, load_merger(merger, "executorch").coefficients(*pair))
    assert [row["name"] for row in report["rows"]] == ["coefficients, factored", "write"]


@pytest.mark.parametrize("level", LEVELS)
def test_prepared_loras_get_the_coefficients_of_numpy(runner, merger, tmp_path, level):
    hypernet = load_hypernet(HYPERNET)
    pair = prepared_pair(tuple(map(load_lora, PAIR)), hypernet, level, tmp_path)
    out = tmp_path / "m.safetensors"
    report = measured(runner, "merge", merger, *pair, "--only", "coefficients", "-o", out)
    assert_same_coefficients(out, coefficients(*map(load_lora, pair), hypernet))
    form = "small" if level == "small" else "full"
    assert report["rows"][0]["name"] == f"coefficients, {form}"


def prepared_pair(pair, hypernet, level, folder) -> list[Path]:
    paths = [folder / "content.safetensors", folder / "style.safetensors"]
    for path, lora, role in zip(paths, pair, ("content", "style"), strict=True):
        save_lora(prepare(lora, hypernet, role, level) if level else lora, path)
    return paths


@pytest.mark.parametrize("level", [None, *LEVELS])
def test_layers_of_sdxl_that_one_lora_lacks_or_scales(runner, sdxl, sdxl_pair, tmp_path, level):
    hypernet, artefact = sdxl
    pair = prepared_pair(sdxl_pair, hypernet, level, tmp_path)
    out, merged = tmp_path / "m.safetensors", tmp_path / "merged.safetensors"
    measured(runner, "merge", artefact, *pair, "--only", "coefficients", "-o", out)
    loras = [load_lora(path) for path in pair]
    m = coefficients(*loras, hypernet)
    assert_same_coefficients(out, m)
    measured(runner, "merge", artefact, *pair, "--only", "merge", "-o", merged, "--threads", 2)
    assert_same_lora(load_lora(merged), weighted_sum(*loras, m))


def test_features_of_two_levels_are_merged_as_they_are_stored(runner, sdxl, sdxl_pair, tmp_path):
    hypernet, artefact = sdxl
    paths = tmp_path / "content.safetensors", tmp_path / "style.safetensors"
    save_lora(prepare(sdxl_pair[0], hypernet, "content", "full-int8"), paths[0])
    save_lora(prepare(sdxl_pair[1], hypernet, "style", "full-fp32"), paths[1])
    out = tmp_path / "m.safetensors"
    measured(runner, "merge", artefact, *paths, "--only", "coefficients", "-o", out)
    assert_same_coefficients(out, coefficients(*map(load_lora, paths), hypernet))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_merged_files_are_pythons_within_one_last_place(runner, merger, tmp_path, dtype):
    paths = tmp_path / "content.safetensors", tmp_path / "style.safetensors"
    for path, source in zip(paths, PAIR, strict=True):
        layers = {
            name: Layer(np.asarray(layer.up).astype(dtype), np.asarray(layer.down).astype(dtype))
            for name, layer in load_lora(source).layers.items()
        }
        save_lora(Lora(layers), path)
    out = tmp_path / "merged.safetensors"
    report = measured(runner, "merge", merger, *paths, "-o", out)
    assert_same_lora(load_lora(out), load_merger(merger, "executorch").merge(*paths))
    assert hashlib.sha256(out.read_bytes()).hexdigest() == report["sha256"]
    names = ["coefficients, factored", "merge", "write"]
    assert [row["name"] for row in report["rows"]] == names


def test_alphas_of_a_file_and_of_its_configuration_count(runner, merger, tmp_path):
    tensors, _ = read_safetensors(PAIR[0])
    names = sorted({name.rpartition(".lora_")[0] for name in tensors})
    half = {
        f"{name}.alpha": np.float32(len(tensors[f"{name}.lora_A.weight"]) / 2) for name in names
    }
    own = tmp_path / "own.safetensors"
    write_safetensors(own, tensors | {name: np.array(a) for name, a in half.items()}, {})
    rank = len(tensors[f"{names[0]}.lora_A.weight"])
    about = {"unet.r": rank, "unet.lora_alpha": rank * 2, "unet.alpha_pattern": {names[0][5:]: 1}}
    configured = tmp_path / "configured.safetensors"
    write_safetensors(configured, tensors, {"lora_adapter_metadata": json.dumps(about)})
    for path in (own, configured):
        out = tmp_path / f"out-{path.name}"
        measured(runner, "merge", merger, path, PAIR[1], "--only", "coefficients", "-o", out)
        pair = load_lora(path), load_lora(PAIR[1])
        assert {layer.scale for layer in pair[0].layers.values()} != {1.0}
        assert_same_coefficients(out, coefficients(*pair, load_hypernet(HYPERNET)))


def test_two_threads_and_many_rounds_give_the_same_file(runner, merger):
    once = measured(runner, "merge", merger, *PAIR)
    often = measured(runner, "merge", merger, *PAIR, "--threads", 2, "--rounds", 3)
    assert once["sha256"] == often["sha256"]
    assert [row["rounds"] for row in often["rows"]] == [3, 3]


def test_a_report_says_what_was_measured(runner, merger):
    report = measured(runner, "merge", merger, *PAIR, "--rounds", 5)
    assert report["runner"] == 1 and report["engine"].startswith("executorch 1.")
    assert report["command"] == "merge" and report["threads"] == 1
    assert report["cpu"].keys() == {"model", "features"} and report["load_ms"] > 0
    assert 5 < report["peak_megabytes"] < 500
    for row in report["rows"]:
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["p95_ms"]


def test_a_graph_is_checked_against_expected_outputs(runner, sdxl, tmp_path):
    hypernet, artefact = sdxl
    manifest = MergerManifest.of(hypernet, "fp32")
    given, expected = tmp_path / "given.safetensors", tmp_path / "expected.safetensors"
    names, arrays = list(manifest.inputs("factored")), example_inputs(manifest, "factored", 640)
    write_safetensors(given, dict(zip(names, arrays, strict=True)), {"order": json.dumps(names)})
    up_content, down_content, up_style, down_style = arrays
    halves = (hypernet.half("x", 640, role) for role in ("content", "style"))
    hidden = sum(
        half @ up @ down
        for half, up, down in zip(
            halves, (up_content, up_style), (down_content, down_style), strict=True
        )
    )
    m = hypernet.read_out("x", 640, hidden)
    write_safetensors(expected, {"m": m}, {})
    checks = ["--method", "factored_640", "--given", given, "--expect", expected]
    report = measured(runner, "graph", artefact, *checks)
    assert 0 <= report["error"] < 1e-5
    write_safetensors(expected, {"m": m * np.float32(1.01)}, {}, force=True)
    assert 0.005 < measured(runner, "graph", artefact, *checks, code=1)["error"] < 0.02
    assert measured(runner, "graph", artefact, *checks, "--tolerance", 0.1)["error"] > 0.005


def test_emulated_aarch64_gives_the_same_coefficients(runner, merger, tmp_path):
    emulated = [*QEMU, str(build("aarch64"))]
    hypernet = load_hypernet(HYPERNET)
    for level in (None, *LEVELS):
        folder = tmp_path / str(level)
        folder.mkdir()
        pair = prepared_pair(tuple(map(load_lora, PAIR)), hypernet, level, folder)
        out = folder / "m.safetensors"
        measured(emulated, "merge", merger, *pair, "--only", "coefficients", "-o", out)
        assert_same_coefficients(out, coefficients(*map(load_lora, pair), hypernet))


def test_bad_arguments_and_files_are_refused_in_one_line(runner, merger, tmp_path):
    assert "no command" in refused(runner)
    assert "usage" in refused(runner, "draw")
    assert "2 files" in refused(runner, "merge", merger, PAIR[0])
    assert "--threads 0" in refused(runner, "merge", merger, *PAIR, "--threads", 0)
    assert "--size" in refused(runner, "merge", merger, *PAIR, "--size", 3)
    assert "does not exist" in refused(runner, "merge", merger, PAIR[0], tmp_path / "no")
    assert "is a directory" in refused(runner, "merge", merger, tmp_path, PAIR[1])
    assert "does not exist" in refused(runner, "merge", tmp_path / "no.pte", *PAIR)
    damaged = tmp_path / "damaged.pte"
    content = bytearray(merger.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert "damaged.pte" in refused(runner, "merge", damaged, *PAIR)
    out = tmp_path / "none" / "out.safetensors"
    assert "cannot be written" in refused(runner, "merge", merger, *PAIR, "-o", out)
    forced = "-o", tmp_path, "--force"
    assert "no regular file" in refused(runner, "merge", merger, *PAIR, *forced)
    assert "exists already" in refused(runner, "merge", merger, *PAIR, "-o", damaged)
    assert damaged.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.pte"]


def test_loras_that_do_not_fit_are_refused_by_name(runner, merger, sdxl, sdxl_pair, tmp_path):
    hypernet = load_hypernet(HYPERNET)
    content, style = prepared_pair(tuple(map(load_lora, PAIR)), hypernet, "small", tmp_path)
    assert "prepared as style" in refused(runner, "merge", merger, style, content)
    other = tmp_path / "sdxl"
    other.mkdir()
    wide, also_wide = prepared_pair(sdxl_pair, sdxl[0], "full-fp16", other)
    assert "another hypernetwork" in refused(runner, "merge", merger, wide, also_wide)
    plain = tmp_path / "plain.safetensors"
    save_lora(sdxl_pair[0], plain)
    line = refused(runner, "merge", merger, plain, PAIR[1])
    assert "different base models" in line and "640x640" in line
    assert "width 640" in refused(runner, "merge", merger, plain, plain)
    bad = dict(read_safetensors(PAIR[0])[0])
    name = sorted(bad)[0]
    bad[name] = np.full_like(bad[name], np.nan)
    write_safetensors(tmp_path / "nan.safetensors", bad, {})
    line = refused(runner, "merge", merger, PAIR[0], tmp_path / "nan.safetensors")
    assert "nan.safetensors" in line and name.rpartition(".lora_")[0] in line and "NaN" in line


def test_other_layouts_are_refused_with_the_command_that_converts_them(runner, merger, tmp_path):
    kohya = tmp_path / "kohya.safetensors"
    save_lora(load_lora(PAIR[0]), kohya, "kohya")
    line = refused(runner, "merge", merger, kohya, PAIR[1])
    assert f"lorarar convert {kohya} -o OUT.safetensors --format diffusers" in line


HOSTILE = [
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9999999]}}',
    b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F32","shape":[0,9223372036854775807,2],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}\0',
    b'{"\xff":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    b'{"a\\nb":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,4]}}',
    b'{"a":"b"}',
    b'{"__metadata__":{"a":7}}',
    b"[]",
    b"{}",
    b"[" * 50_000,
    b'{"a":' * 50_000,
    b'{"__metadata__":{"lora_adapter_metadata":"7"}}',
    b'{"__metadata__":{"lorarar.prepared":"[]"}}',
]


def test_hostile_headers_are_refused_by_the_sanitized_build(sanitized, merger, tmp_path):
    path = tmp_path / "hostile.safetensors"
    for header in HOSTILE:
        for size in (len(header), 1 << 62, 100_000_001):
            path.write_bytes(size.to_bytes(8, "little") + header + b"\0" * 4)
            assert "hostile.safetensors" in refused(sanitized, "merge", merger, path, path)
    for content in (b"", b"\0" * 7, b"PK\x03\x04 and code", b"\x80\x02 and code", b"hello, all"):
        path.write_bytes(content)
        line = refused(sanitized, "merge", merger, path, path)
        assert ("pickle" in line) == (b"code" in content)


STRICTER = (  # than Python, which reads other layouts, too, and looks at weights later
    "lorarar convert", "occurs twice", "save it as F32", "save them as F32", "no layer that",
    "does not know", "NaN or infinite", "overflows", "as a convolution", "prepared as",
    "prepared for", "different base models",
)  # fmt: skip
OF_BASES = ("another base", "SDXL-class", "no one base", "no plain LoRA", "name the same layer")


def same_verdict(runner: list[str], merger: Path, path: Path, style: Path) -> bool:
    """Whether both take the file; what one alone refuses must be for a reason listed here."""
    done = subprocess.run(
        [*runner, "merge", str(merger), str(path), str(style)],
        capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stderr
    try:
        load_lora(path)
        reason = None
    except LorararError as error:
        reason = str(error)
    if done.returncode == 0:
        assert reason is None or any(part in reason for part in OF_BASES), reason
        return True
    [line] = done.stderr.splitlines()
    assert path.name in line or merger.name in line
    assert reason or any(part in line for part in STRICTER), line
    return False


def mutated(content: bytes, generator: random.Random) -> bytes:
    """One to three changes of a header, its length mended in most cases."""
    size = 8 + int.from_bytes(content[:8], "little")
    changed = bytearray(content)
    for _ in range(generator.randint(1, 3)):
        at = generator.randrange(8, size)
        insert = generator.choice([b"", b"9", b"-", b'"', b"{", b"null", b"\xff", b"0", b"F16"])
        changed[at : at + generator.randint(0, 3)] = insert
    if generator.random() < 0.8:
        changed[:8] = (size - 8 + len(changed) - len(content)).to_bytes(8, "little")
    return bytes(
        changed[: generator.randrange(len(changed))] if generator.random() < 0.1 else changed
    )


def test_mutated_files_get_pythons_verdict(sanitized, merger, tmp_path):
    pair = [load_lora(path) for path in PAIR]
    few = [Lora(dict(list(lora.layers.items())[:2])) for lora in pair]
    content, style = prepared_pair(few, load_hypernet(HYPERNET), "full-int8", tmp_path)
    valid = content.read_bytes()
    assert same_verdict(sanitized, merger, content, style)
    generator = random.Random(0)
    path = tmp_path / "fuzzed.safetensors"
    taken = []
    for _ in range(300):
        path.write_bytes(mutated(valid, generator))
        taken.append(same_verdict(sanitized, merger, path, style))
    assert 3 < sum(taken) < 150


def test_files_that_once_found_faults_in_pythons_reader_get_its_verdict(
    sanitized, merger, tmp_path
):
    path = tmp_path / "fuzzed.safetensors"
    for file in sorted(CORPUS.iterdir()):
        path.write_bytes(make_file(Choices(file.read_bytes())))
        same_verdict(sanitized, merger, path, path)
