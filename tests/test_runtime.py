"""What was exported runs, on each engine, to the numbers of the dense formula."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
import reference
import typer
from typer.testing import CliRunner

from lorarar import (
    Hypernet,
    Layer,
    Lora,
    LorararError,
    coefficients,
    prepare,
    save_hypernet,
    save_lora,
    weighted_sum,
)
from lorarar.artefacts.formats import FORMAT_OF, FORMATS
from lorarar.artefacts.merger import MergerManifest
from lorarar.export import to_coreml, to_executorch, to_onnx
from lorarar.export.coreml.hypernet import check_functions
from lorarar.export.exporters import export_hypernet
from lorarar.export.report import verify
from lorarar.runtime import load_merger
from lorarar.runtime.cache import Cache

BLOCK = "unet.mid_block.attentions.0.transformer_blocks.0"
OFFSET = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)
HYPERNET = replace(
    Hypernet.random((64,), hidden=16), offsets={f"{BLOCK}.attn1.to_q": OFFSET}
)  # the other layer has none
TOLERANCE = {"fp32": 1e-5, "fp16": 2e-3, "int8": 3e-2}
SCRIPTS = {"onnxruntime": to_onnx, "executorch": to_executorch}
SUFFIXES = {"onnxruntime": "onnx", "openvino": "onnx", "executorch": "pte"}
ARTEFACTS = [(backend, dtype) for backend in SUFFIXES for dtype in TOLERANCE]


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory):
    """Export each artefact once, when it is first asked for."""
    folder = tmp_path_factory.mktemp("artefacts")

    def path_of(backend: str, dtype: str):
        path = folder / f"{dtype}.{SUFFIXES[backend]}"
        if not path.exists():
            report = export_hypernet(FORMAT_OF[backend], HYPERNET, path, dtype)
            assert len(report.graphs) == 3
        return path

    return path_of


def draw(rank: int, seed: int, dtype=np.float32, scale: float = 1.0) -> Lora:
    generator = np.random.default_rng(seed)
    layers = {}
    for name, out, width in (("attn1.to_q", 64, 64), ("attn2.to_out.0", 64, 96)):
        up = generator.standard_normal((out, rank)).astype(dtype)
        down = generator.standard_normal((rank, width)).astype(dtype)
        layers[f"{BLOCK}.{name}"] = Layer(up, down, scale)
    return Lora(layers)


def published(content: Lora, style: Lora) -> dict[str, np.ndarray]:
    """The dense formula; a missing layer counts as zero."""
    m = {}
    for name in content.layers | style.layers:
        dense = [
            reference.dense(*lora.layers[name]) if name in lora.layers else None
            for lora in (content, style)
        ]
        shape = next(dw.shape for dw in dense if dw is not None)
        dense = [np.zeros(shape) if dw is None else dw for dw in dense]
        m[name] = reference.coefficients(*dense, *HYPERNET.inputs[shape[0]], *HYPERNET.output)
        m[name] = m[name] + HYPERNET.offsets.get(name, 0)
    return m


def assert_close(found: dict, wanted: dict, tolerance: float):
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert np.linalg.norm(found[name] - wanted[name]) < tolerance * np.linalg.norm(wanted[name])


@pytest.mark.parametrize(("backend", "dtype"), ARTEFACTS)
def test_every_backend_and_dtype_gives_the_published_coefficients(backend, dtype, artefacts):
    merger = load_merger(artefacts(backend, dtype), backend, threads=1)
    for ranks, stored, scale in (((3, 5), np.float32, 1.0), ((8, 1), np.float16, 0.5)):
        pair = [draw(rank, rank, stored, scale) for rank in ranks]
        assert_close(merger.coefficients(*pair), published(*pair), TOLERANCE[dtype])


@pytest.mark.parametrize(("backend", "dtype"), ARTEFACTS)
@pytest.mark.parametrize("level", ["small", "full"])
def test_prepared_loras_give_the_published_coefficients(backend, dtype, level, artefacts):
    merger = load_merger(artefacts(backend, dtype), backend)
    pair = [draw(3, 1), draw(5, 2)]
    level = level if level == "small" else f"full-{dtype}"
    prepared = [
        prepare(lora, HYPERNET, role, level)
        for lora, role in zip(pair, ("content", "style"), strict=True)
    ]
    tolerance = max(TOLERANCE[dtype], 2e-3 if level == "small" else 0)
    assert_close(merger.coefficients(*prepared), published(*pair), tolerance)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_backends_without_export_run_the_checkpoint(backend, tmp_path):
    save_hypernet(HYPERNET, tmp_path / "h.safetensors")
    merger = load_merger(tmp_path / "h.safetensors", backend, threads=2)
    pair = [draw(3, 1), draw(5, 2, ml_dtypes.bfloat16, 2.0)]
    assert_close(merger.coefficients(*pair), published(*pair), 1e-5)
    for level in ("small", "full-fp32"):
        prepared = [
            prepare(lora, HYPERNET, role, level)
            for lora, role in zip(pair, ("content", "style"), strict=True)
        ]
        assert_close(merger.coefficients(*prepared), published(*pair), 2e-3)


@pytest.mark.parametrize("backend", SUFFIXES)
def test_a_layer_in_one_lora_only_counts_as_zero_in_the_other(backend, artefacts):
    merger = load_merger(artefacts(backend, "fp32"), backend)
    content, style = draw(3, 1), draw(5, 2)
    del style.layers[f"{BLOCK}.attn1.to_q"]
    del content.layers[f"{BLOCK}.attn2.to_out.0"]
    assert_close(merger.coefficients(content, style), published(content, style), 1e-5)


@pytest.mark.parametrize("backend", SUFFIXES)
def test_merge_gives_the_merged_lora_of_files(backend, artefacts, tmp_path):
    from lorarar.standin import standin_lora

    merger = load_merger(artefacts(backend, "fp32"), backend)
    pair = [draw(3, 1), draw(5, 2)]
    merged = merger.merge(*pair, 0.7, 1.3)
    wanted = weighted_sum(*pair, coefficients(*pair, HYPERNET), 0.7, 1.3)
    for name, layer in wanted.layers.items():
        expected = reference.dense(*layer)
        difference = np.linalg.norm(reference.dense(*merged.layers[name]) - expected)
        assert difference < 1e-5 * np.linalg.norm(expected)
    path = tmp_path / "sdxl.safetensors"
    save_lora(standin_lora("koala-700m", 1, seed=0), path)
    with pytest.raises(LorararError, match=r"width 640.*\[64\].*base model"):
        merger.merge(path, path)


def test_the_onnxruntime_path_imports_no_torch(artefacts, tmp_path):
    from lorarar.standin import standin_lora

    path = tmp_path / "merger.onnx"
    export_hypernet("onnx", Hypernet.random(hidden=8), path, "fp32")
    lora = standin_lora("koala-700m", 2, seed=0, dtype=ml_dtypes.bfloat16)
    save_lora(lora, tmp_path / "bf16.safetensors")
    code = f"""
import sys
from lorarar.runtime import load_merger
from lorarar.runtime.cache import Cache
merged = load_merger({str(path)!r}).merge(*[{str(tmp_path / "bf16.safetensors")!r}] * 2)
assert len(merged.layers) == 168
heavy = {{"torch", "diffusers", "peft", "transformers", "onnx"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_artefacts_carry_their_manifest_and_no_float_copy_of_int8_weights(artefacts):
    for backend in SUFFIXES:
        for dtype in TOLERANCE:
            merger = load_merger(artefacts(backend, dtype), backend)
            assert merger.manifest == MergerManifest.of(HYPERNET, dtype)
    model = onnx.load(artefacts("onnxruntime", "int8"))
    weights = [w for w in model.graph.initializer if tuple(w.dims) == (16, 64)]
    assert weights and all(w.data_type == onnx.TensorProto.INT8 for w in weights)


def refused(path, backend: str, match: str):
    with pytest.raises(LorararError, match=match) as error:
        load_merger(path, backend)
    assert "\n" not in str(error.value) and path.name in str(error.value)


@pytest.mark.parametrize("backend", SUFFIXES)
@pytest.mark.parametrize("keep", [0, 6, 40, 1000, -64])
def test_truncated_artefacts_are_one_line_and_leave_the_process_alive(
    backend, keep, artefacts, tmp_path
):
    whole = artefacts(backend, "fp32").read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(whole[:keep])
    refused(path, backend, "export it again")


def test_a_pte_with_any_damaged_byte_is_refused_before_the_engine_sees_it(artefacts, tmp_path):
    whole = artefacts("executorch", "fp32").read_bytes()
    path = tmp_path / "flipped"
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(path, "executorch", "damaged")


def test_executorch_refuses_a_rank_beyond_its_limit_in_one_line(artefacts):
    merger = load_merger(artefacts("executorch", "fp32"), "executorch")
    with pytest.raises(LorararError, match=r"factored_64.*64x513.*use the onnxruntime backend"):
        merger.coefficients(draw(513, 1), draw(5, 2))
    pair = [draw(512, 1), draw(513, 2)]
    merger = load_merger(artefacts("onnxruntime", "fp32"))
    assert_close(merger.coefficients(*pair), published(*pair), 1e-5)


@pytest.mark.parametrize("backend", SUFFIXES)
def test_artefacts_do_not_tell_where_they_were_made(backend, artefacts):
    written = artefacts(backend, "fp32").read_bytes()
    for place in (Path(to_onnx.__file__).parent, Path(onnx.__file__).parent.parent):
        assert str(place).encode() not in written


@pytest.mark.parametrize("backend", SUFFIXES)
def test_foreign_and_newer_artefacts_are_refused(backend, artefacts, tmp_path):
    path = tmp_path / "artefact"
    path.write_bytes(b"\x08\x00\x00\x00 not an artefact at all, but some text" * 9)
    refused(path, backend, "export it again")
    whole = artefacts(backend, "fp32").read_bytes()
    newer = whole.replace(b"lorarar.merger.1", b"lorarar.merger.7")
    if backend == "executorch":
        from lorarar.runtime.backends.executorch import SEAL, seal

        newer = seal(newer[: -SEAL().digest_size])
    path.write_bytes(newer)
    refused(path, backend, r"format lorarar\.merger\.7")


@pytest.mark.parametrize("offsets", ["AAAA", "no base64", "////////////"])
def test_damaged_offsets_are_refused(offsets):
    whole = MergerManifest.of(HYPERNET, "fp32")
    assert np.array_equal(whole.layer_offsets[f"{BLOCK}.attn1.to_q"], OFFSET)
    with pytest.raises(LorararError, match="no manifest of an exported hypernetwork"):
        MergerManifest.parse(replace(whole, offsets=offsets).to_json(), Path("x.onnx"))


def test_a_manifest_carries_what_prepared_merges_need():
    whole = MergerManifest.parse(MergerManifest.of(HYPERNET, "fp16").to_json(), Path("x.onnx"))
    weight, bias, input_biases = whole.read_out_weights
    assert np.array_equal(weight, HYPERNET.output[0]) and np.array_equal(bias, HYPERNET.output[1])
    assert np.array_equal(input_biases[64], HYPERNET.inputs[64][1])
    fields = json.loads(whole.to_json())
    del fields["read_out"]
    assert MergerManifest.parse(json.dumps(fields), Path("old.onnx")).read_out_weights is None


@pytest.mark.parametrize("changed", [{"hidden": 17}, {"widths": [64, 96]}, {"read_out": "AAAA"}])
def test_a_read_out_of_other_shapes_is_refused(changed):
    whole = MergerManifest.of(HYPERNET, "fp32")
    with pytest.raises(LorararError, match="no manifest of an exported hypernetwork"):
        MergerManifest.parse(replace(whole, **changed).to_json(), Path("x.onnx"))


def test_a_cache_drops_what_was_used_longest_ago_and_forgets_its_size():
    cache = Cache[int](most=9, most_bytes=10, size_of=lambda value: value)
    for value in (4, 5, 4, 6, 0):
        cache.get(value, lambda value=value: value)
    assert list(cache.values) == [4, 6, 0]
    cache.get(11, lambda: 11)
    assert list(cache.values) == [11]
    cache.clear()
    assert [cache.get(value, lambda value=value: value) for value in (9, 1)] == [9, 1]
    assert list(cache.values) == [9, 1]


def test_unknown_missing_and_unrunnable_backends_say_why(tmp_path):
    path = tmp_path / "merger.onnx"
    refused(path, "onnxruntime", "does not exist")
    path.write_bytes(b"")
    with pytest.raises(LorararError, match="backend 'tpu' is unknown; use one of onnxruntime"):
        load_merger(path, "tpu")
    if sys.platform != "darwin":
        refused(path, "coreml", "macOS only")


def test_a_backend_that_is_not_installed_names_its_extra(tmp_path, monkeypatch):
    path = tmp_path / "merger.onnx"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "lorarar.runtime.backends.onnxruntime", raising=False)
    with pytest.raises(LorararError, match=r"pip install 'lorarar\[onnxruntime\]'"):
        load_merger(path)


def test_loras_prepared_otherwise_are_refused(artefacts):
    merger = load_merger(artefacts("onnxruntime", "fp32"))
    content, style = draw(3, 1), draw(5, 2)
    with pytest.raises(LorararError, match="prepared as style but used as content"):
        merger.merge(prepare(content, HYPERNET, "style"), style)
    other = Hypernet.random((64,), hidden=16, seed=1)
    with pytest.raises(LorararError, match="another hypernetwork"):
        merger.merge(prepare(content, other, "content"), style)
    lacking = prepare(content, HYPERNET, "content", "full-fp32")
    lacking.prepared.features.popitem()
    with pytest.raises(LorararError, match="has no features; run lorarar prepare again"):
        merger.merge(lacking, prepare(style, HYPERNET, "style", "full-fp32"))
    with pytest.raises(LorararError, match="has no features; run lorarar prepare again"):
        coefficients(lacking, style, HYPERNET)


@pytest.mark.parametrize(
    "levels", [("full-fp16", None), ("full-int8", "full-int8"), ("small", "full-fp32")]
)
def test_loras_not_prepared_alike_are_merged_from_their_factors(levels, artefacts):
    merger = load_merger(artefacts("onnxruntime", "fp32"))
    pair = [draw(3, 1), draw(5, 2)]
    mixed = [
        prepare(lora, HYPERNET, role, level) if level else lora
        for lora, role, level in zip(pair, ("content", "style"), levels, strict=True)
    ]
    assert_close(merger.coefficients(*mixed), published(*pair), 1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_exports_keep_what_exists_and_refuse_unknown_dtypes(name, tmp_path):
    path = tmp_path / "merger"
    path.write_bytes(b"mine")
    with pytest.raises(LorararError, match="--force"):
        export_hypernet(name, HYPERNET, path, "fp32")
    with pytest.raises(LorararError, match="dtype 'fp4'"):
        export_hypernet(name, HYPERNET, path, "fp4", force=True)
    assert path.read_bytes() == b"mine"


def test_an_export_that_computes_something_else_fails_its_verification(tmp_path):
    manifest = MergerManifest.of(HYPERNET, "fp32")

    def wrong(graph, arrays):
        return np.ones((2, arrays[-1].shape[-1]), np.float32)

    with pytest.raises(LorararError, match="differs from numpy"):
        verify(wrong, HYPERNET, manifest, tmp_path / "merger.onnx")


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_core_ml_packages_have_the_manifest_s_functions_and_ranges(dtype, tmp_path, monkeypatch):
    import coremltools as ct

    path = tmp_path / "merger.mlpackage"
    report = export_hypernet("coreml", HYPERNET, path, dtype)
    if sys.platform != "darwin":
        assert "not run" in report.note
    package = ct.models.MLModel(str(path), skip_model_load=True)
    manifest = MergerManifest.of(HYPERNET, dtype)
    assert json.loads(package.user_defined_metadata["manifest"]) == json.loads(manifest.to_json())
    spec = package.get_spec()
    check_functions(spec, manifest, path)
    assert spec.specificationVersion == 9  # iOS 18
    operations = {
        operation.type
        for function in spec.mlProgram.functions.values()
        for operation in function.block_specializations[function.opset].operations
    }
    assert operations >= {"matmul", "maximum", "add"} and "custom_layer" not in operations
    monkeypatch.setattr(sys, "platform", "darwin")  # opening reads the manifest, on any platform
    assert load_merger(path, "coreml").manifest == manifest
    del spec.description.functions[0]
    with pytest.raises(LorararError, match="functions"):
        check_functions(spec, manifest, path)


def test_core_ml_refuses_int8_in_one_line(tmp_path):
    with pytest.raises(LorararError, match="no int8 inputs"):
        export_hypernet("coreml", HYPERNET, tmp_path / "merger.mlpackage", "int8")


@pytest.mark.parametrize("backend", SCRIPTS)
def test_scripts_run_by_path_without_arguments_and_write_both_widths(backend, tmp_path):
    from lorarar.standin import standin_lora

    script = [sys.executable, SCRIPTS[backend].__file__]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "untrained stand-in" in done.stdout and "factored_1280" in done.stdout
    merger = load_merger(tmp_path / f"merger.{SUFFIXES[backend]}", backend)
    pair = [standin_lora("koala-700m", 2, seed, np.float32) for seed in (1, 2)]
    assert_close(merger.coefficients(*pair), coefficients(*pair, Hypernet.random()), 1e-5)


def test_a_script_that_cannot_export_says_so_in_one_line_and_exits_with_1(tmp_path):
    (tmp_path / "merger.onnx").write_bytes(b"mine")
    script = [sys.executable, to_onnx.__file__]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout.count("\n") == 1
    assert done.stderr.strip() == "error: merger.onnx: exists already; pass --force to replace it"


@pytest.mark.parametrize("exporter", [to_onnx, to_executorch, to_coreml])
@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (["--quantize", "int8"], "add --model"),
        (["--model", "mini", "--dtype", "fp16"], "leave it or --model out"),
    ],
)
def test_scripts_refuse_options_that_mean_nothing_for_what_is_exported(
    exporter, given, remedy, tmp_path
):
    app = typer.Typer()
    app.command()(exporter.main)
    done = CliRunner().invoke(app, [*given, "--output", str(tmp_path / "exported")])
    assert isinstance(done.exception, LorararError)
    assert str(done.exception).startswith(" ".join(given[-2:])) and remedy in str(done.exception)
    assert not any(tmp_path.iterdir())
