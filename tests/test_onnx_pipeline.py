"""The embedded model exported to ONNX: parity with torch, LoRA slots, adapters, bad input."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.onnx._internal.exporter import _fx_passes

from lorarar.artefacts.pipeline import read_manifest
from lorarar.diffusion.pipeline import draw, load_pipeline, put_lora
from lorarar.embedded import BASE, HYPERNET, LORAS
from lorarar.errors import LorararError
from lorarar.export.onnx import decompose, sensitivity
from lorarar.export.onnx.adapter import export_adapter
from lorarar.export.onnx.pipeline import export_pipeline
from lorarar.export.onnx.quantise import dequantise, quantise
from lorarar.export.source import open_model
from lorarar.hypernet import load_hypernet
from lorarar.lora import Layer, load_lora
from lorarar.merge import coefficients, weighted_sum
from lorarar.mini.judge import ask, load_judge
from lorarar.runtime.backends.onnxruntime import session_options
from lorarar.runtime.pipeline import Pipeline
from lorarar.runtime.slots import pair_factors, slot_factors

PAIR = LORAS / "votol.safetensors", LORAS / "neon.safetensors"
PROMPTS = ["a red cup on grass", "a votol cup on grass in neon style"]
STEPS = 20


@pytest.fixture
def exported(exported_none, exported_int8):
    return {"none": exported_none, "int8": exported_int8}


@pytest.fixture(scope="module")
def plain(exported_none):
    return Pipeline.load(exported_none, threads=1)


@pytest.fixture(scope="module")
def inputs():
    generator = np.random.default_rng(0)
    return {
        "sample": generator.standard_normal((2, 8, 16, 16), np.float32),
        "timestep": np.array([500], np.float32),
        "encoder_hidden_states": generator.standard_normal((2, 16, 160), np.float32),
        "text_embeds": generator.standard_normal((2, 96), np.float32),
        "time_ids": np.array([[64, 64, 0, 0, 64, 64]] * 2, np.float32),
    }


def session(folder):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    model = folder / "unet" / "model.onnx"
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def torch_unet(inputs, lora=None):
    pipeline = load_pipeline()
    put_lora(pipeline, lora)
    given = {name: torch.from_numpy(array) for name, array in inputs.items()}
    about = {name: given[name] for name in ("text_embeds", "time_ids")}
    with torch.no_grad():
        answer = pipeline.unet(
            given["sample"],
            given["timestep"],
            given["encoder_hidden_states"],
            added_cond_kwargs=about,
        )
    return answer.sample.numpy()


def relative(found, wanted):
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def psnr(found, wanted):
    return float(-10 * np.log10(np.square(found - wanted).mean()))


def drawn_by_torch(pipeline, prompt, seed, side=16):
    """With the runtime's noise in place of torch's."""
    noise = np.random.default_rng(seed).standard_normal((1, 8, side, side), np.float32)
    size = {"height": side * 4, "width": side * 4}
    return draw(pipeline, [prompt], [0], STEPS, latents=torch.from_numpy(noise), **size)


def merged_pair():
    content, style = map(load_lora, PAIR)
    return weighted_sum(content, style, coefficients(content, style, load_hypernet(HYPERNET)))


@pytest.mark.parametrize(("quantize", "bound"), [("none", 1e-5), ("int8", 0.05)])
def test_a_step_equals_torch(exported, inputs, quantize, bound):
    found = session(exported[quantize]).run(None, inputs)[0]
    assert relative(found, torch_unet(inputs)) < bound


@pytest.mark.parametrize(("quantize", "bound"), [("none", 1e-4), ("int8", 0.3)])
def test_what_a_lora_changes_equals_torch(exported, inputs, quantize, bound):
    folder, lora = exported[quantize], load_lora(PAIR[0])
    run = session(folder).run
    factors = slot_factors(lora, read_manifest(folder), "x")
    found = run(None, inputs | factors)[0] - run(None, inputs)[0]
    wanted = torch_unet(inputs, lora) - torch_unet(inputs)
    assert np.linalg.norm(wanted) > 0.02 * np.linalg.norm(torch_unet(inputs))
    assert relative(found, wanted) < bound


def test_swapping_and_swapping_back_changes_nothing(exported, inputs):
    pipeline = read_manifest(exported["none"])
    one, other = (slot_factors(load_lora(path), pipeline, "x") for path in PAIR)
    run = session(exported["none"]).run
    alone = session(exported["none"]).run(None, inputs | one)[0]
    swapped = [run(None, inputs | factors)[0] for factors in (one, other, {}, one)]
    assert np.array_equal(swapped[0], alone)
    assert np.array_equal(swapped[3], alone)
    assert not np.array_equal(swapped[1], alone)


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_onnxruntimes_own_adapter_equals_torch_with_the_merged_lora(
    exported, inputs, tmp_path, quantize
):
    merged = merged_pair()
    from lorarar.save import save_lora

    save_lora(merged, tmp_path / "merged.safetensors")
    path = tmp_path / "merged.onnx_adapter"
    export_adapter(tmp_path / "merged.safetensors", exported[quantize], path)
    adapter = onnxruntime.LoraAdapter()
    adapter.Load(str(path))
    options = onnxruntime.RunOptions()
    options.add_active_adapter(adapter)
    found = session(exported[quantize]).run(None, inputs, options)[0]
    bound = {"none": 1e-5, "int8": 0.05}[quantize]
    assert relative(found, torch_unet(inputs, merged)) < bound


def in_float32(path):
    lora = load_lora(path)
    for name, (up, down, scale) in lora.layers.items():
        lora.layers[name] = Layer(np.float32(up), np.float32(down), scale)
    return lora


@pytest.mark.parametrize(("quantize", "bound"), [("none", 1e-5), ("int8", 0.1)])
def test_a_pair_in_its_slots_equals_the_merged_lora(exported, inputs, quantize, bound):
    """With a layer that only one of both has, with alphas, and with scales."""
    content, style = map(in_float32, PAIR)
    first, *others = style.layers
    style.layers = {name: style.layers[name]._replace(scale=1.7) for name in others}
    m, scales = coefficients(content, style, load_hypernet(HYPERNET)), (0.9, 1.3)
    assert first in m
    pipeline = read_manifest(exported[quantize])
    merged = slot_factors(weighted_sum(content, style, m, *scales), pipeline, "x")
    slotted = pair_factors((content, style), m, scales, pipeline, source="x")
    run = session(exported[quantize]).run
    none, found, wanted = (run(None, inputs | each)[0] for each in ({}, slotted, merged))
    assert relative(found - none, wanted - none) < bound


def test_pictures_equal_torchs(plain):
    pipeline = load_pipeline()
    wanted = drawn_by_torch(pipeline, PROMPTS[0], 3)[0].permute(1, 2, 0).numpy()
    plain.load_lora(None)
    found = np.asarray(plain.generate(PROMPTS[0], steps=STEPS, seed=3)) / 255
    assert psnr(found, wanted) > 50  # 8 bits a channel alone cost 59 dB


def test_pictures_of_a_merged_pair_equal_torchs(plain):
    pipeline = load_pipeline()
    put_lora(pipeline, merged_pair())
    wanted = drawn_by_torch(pipeline, PROMPTS[1], 4)[0].permute(1, 2, 0).numpy()
    plain.set_pair(*PAIR)
    found = np.asarray(plain.generate(PROMPTS[1], steps=STEPS, seed=4)) / 255
    assert psnr(found, wanted) > 40


def test_int8_pictures_are_close(exported, plain):
    int8 = Pipeline.load(exported["int8"], threads=1)
    plain.load_lora(None)
    pictures = [
        [np.asarray(each.generate(prompt, steps=STEPS, seed=seed)) / 255 for each in (plain, int8)]
        for seed, prompt in enumerate(("a red cup on grass", "a blue house in snow"))
    ]
    assert min(psnr(found, wanted) for wanted, found in pictures) > 35


def test_the_judge_sees_what_was_asked(exported):
    int8 = Pipeline.load(exported["int8"], threads=1)
    kinds = ["cup", "house", "car", "fish"]
    drawn = [np.asarray(int8.generate(f"a red {kind} on grass")) for kind in kinds]
    pictures = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2) / 255
    assert ask(load_judge(BASE.parent / "judge.safetensors"), pictures)["class"] == kinds


def test_optimum_loads_the_folder_and_draws_as_torch(exported):
    from optimum.onnxruntime import ORTStableDiffusionXLPipeline

    found = ORTStableDiffusionXLPipeline.from_pretrained(exported["none"])
    found.set_progress_bar_config(disable=True)
    arguments = {"num_inference_steps": 4, "guidance_scale": 5.0, "output_type": "np"}
    drawn = found(PROMPTS[0], generator=torch.Generator().manual_seed(0), **arguments).images[0]
    wanted = draw(load_pipeline(), [PROMPTS[0]], [0], 4)[0].permute(1, 2, 0).numpy()
    assert psnr(drawn, wanted) > 60


@pytest.mark.parametrize(
    ("function", "decomposed"),
    [
        (lambda x: torch.relu(x) @ x, False),
        (lambda x: x.clone().masked_fill_(x < 0, 0) @ x, True),  # writes to its input
        (lambda x: torch.special.log_ndtr(x), True),  # unknown to ONNX
    ],
)
def test_only_graphs_that_need_it_are_decomposed(function, decomposed, monkeypatch):
    class Module(torch.nn.Module):
        def forward(self, x):
            return function(x)

    calls, decompose_with_registry = [], _fx_passes.decompose_with_registry

    def counted(program, registry):
        calls.append(program)
        return decompose_with_registry(program, registry)

    monkeypatch.setattr(_fx_passes, "decompose_with_registry", counted)
    program = torch.export.export(Module(), (torch.randn(4, 4),))
    with decompose.known_operators_kept():
        torch.onnx.export(program, dynamo=True, verbose=False, optimize=False)
    assert len(calls) == decomposed


def test_weights_stored_in_8_bits_are_widened_when_opened_not_in_each_step(exported_int8, tmp_path):
    def kinds(path):
        graph = onnx.load(path, load_external_data=False).graph
        stored = {weight.name: weight.data_type for weight in graph.initializer}
        return stored, {node.op_type: node for node in graph.node}

    model = exported_int8 / "unet" / "model.onnx"
    stored, nodes = kinds(model)
    assert stored[nodes["DequantizeLinear"].input[0]] == onnx.TensorProto.INT8
    options = session_options(threads=1)
    options.optimized_model_filepath = str(tmp_path / "open.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    assert "DequantizeLinear" not in kinds(tmp_path / "open.onnx")[1]


def test_numbers_stand_for_close_weights():
    weight = np.random.default_rng(0).standard_normal((7, 160)).astype(np.float32)
    weight[3] = 0
    for bits, bound in ((8, 0.01), (4, 0.12)):
        numbers, scales = quantise(weight, bits)
        assert relative(dequantise(numbers, scales, bits, 160), weight) < bound


def test_the_layers_that_pictures_feel_most_stay_wider(monkeypatch):
    monkeypatch.setattr(sensitivity, "STEPS", 2)
    monkeypatch.setattr(sensitivity, "TIMESTEPS", (500,))
    with open_model("mini", None) as model:
        few, many = (
            sensitivity.choose_wider_layers(model, "int8", wanted, PROMPTS[:1])
            for wanted in (45, 60)
        )
        assert set(few.values()) == set(many.values()) == {"fp16"}
        assert 0 < len(few) < len(many)
        assert few.keys() < many.keys()
        with pytest.raises(LorararError, match="all that int8 everywhere reaches"):
            sensitivity.choose_wider_layers(model, "int4", 90, PROMPTS[:1])


@pytest.fixture
def broken(tmp_path):
    return Path(shutil.copytree(BASE, tmp_path / "base"))


def test_exporting_onto_something_needs_force(exported):
    with open_model("mini", None) as model, pytest.raises(LorararError, match="--force"):
        export_pipeline(model, exported["none"])


def test_a_missing_shard_is_named(broken, tmp_path):
    unet = broken / "unet"
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    index = {"weight_map": {"conv_in.weight": "part-2.safetensors"}}
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with (
        pytest.raises(LorararError, match=r"part-2\.safetensors: does not exist"),
        open_model(str(broken), None),
    ):
        pass


def test_other_models_are_refused(broken):
    index = json.loads((broken / "model_index.json").read_text())
    (broken / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    with pytest.raises(LorararError, match="is a FluxPipeline"), open_model(str(broken), None):
        pass


def test_room_is_checked_before_anything_is_written(tmp_path, monkeypatch):
    from lorarar.export.folder import check_disk

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(LorararError, match=r"needs 2\.00 GB"):
        check_disk(tmp_path / "out", 2_000_000_000)
