"""A UNet in stages is the UNet; exported to ExecuTorch it takes any LoRA at run time."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from executorch.runtime import Runtime
from test_runtime_pipeline import loaded_cramped

from lorarar.artefacts.pipeline import check_files, read_manifest
from lorarar.bases import BASES, attention_shapes, narrowed
from lorarar.diffusion.standin import standin_unet
from lorarar.embedded import LORAS
from lorarar.errors import LorararError
from lorarar.export.executorch.lower import attend, lower
from lorarar.export.executorch.pipeline import export_pipeline
from lorarar.export.factors import factor_names
from lorarar.export.parts import random_inputs, unet_part
from lorarar.export.slots import SlottedUNet
from lorarar.export.source import open_model
from lorarar.export.stages import stages_of, unet_stages
from lorarar.lora import Lora, load_lora
from lorarar.merge import materialise, weighted_sum
from lorarar.numeric import psnr
from lorarar.runtime.pipeline import Pipeline

SIDE = 8


def draw_inputs(channels=4):
    torch.manual_seed(0)
    return {
        "sample": torch.randn(1, channels, SIDE, SIDE),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, 16, 160),
        "text_embeds": torch.randn(1, 96),
        "time_ids": torch.full((1, 6), 64.0),
    }


def draw_factors(slots, rank, seed, deviation=0.05):
    generator = torch.Generator().manual_seed(seed)
    shapes = [shape for out, width in slots.values() for shape in ((rank, width), (out, rank))]
    drawn = [torch.randn(shape, generator=generator) * deviation for shape in shapes]
    return dict(zip(factor_names(slots), drawn, strict=True))


def error(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(
    ("base", "processor"),
    [
        ("mini", attend),
        ("koala-700m", attend),
        ("ssd-1b", attend),
        ("sdxl", attend),
        ("ssd-1b", AttnProcessor2_0()),
    ],
)
@torch.no_grad()
def test_stages_one_after_another_equal_the_whole_unet(base, processor):
    base = narrowed(BASES[base])
    slots, inputs = attention_shapes(base), draw_inputs()
    factors = draw_factors(slots, 5, seed=1)
    whole = SlottedUNet(standin_unet(base, torch.float32, SIDE).eval(), slots)
    wanted = whole(*inputs.values(), [*factors.values()])
    bare = standin_unet(base, torch.float32, SIDE).eval()
    bare.set_attn_processor(processor)
    stages = unet_stages(bare, {}, inputs, slots)
    values = dict(inputs)
    for stage in stages:
        own = [factors[name] for name in factor_names(stage.projections)]
        given = stage.module(*(values[name] for name in stage.inputs), *([own] if own else []))
        values |= zip(stage.outputs, given, strict=True)
    assert error(values["out_sample"], wanted) < 1e-5
    plain = whole(*inputs.values(), [0 * factor for factor in factors.values()])
    assert error(plain, wanted) > 1e-2  # the LoRA does something
    assert sorted(slot for stage in stages for slot in stage.projections) == sorted(slots)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The embedded model in float32, its manifest, and a function that runs its UNet."""
    folder = tmp_path_factory.mktemp("executorch") / "exported"
    with open_model("mini", None) as model:
        report = export_pipeline(model, folder, "none", side=SIDE)
        part = unet_part(model, 1, SIDE)
    pipeline = read_manifest(folder)
    programs = []
    for stage in pipeline.parts["unet"]:
        path = folder / stage.file
        program = Runtime.get().load_program(path.read_bytes())
        programs.append((stage, program, program.load_method("forward")))

    def run(factors):
        values = draw_inputs(pipeline.channels)
        for stage, _, method in programs:
            names = factor_names(stage.projections)
            arguments = [values[name] for name in stage.inputs] + [factors[name] for name in names]
            values |= zip(stage.outputs, method.execute(arguments), strict=True)
        return values["out_sample"]

    return SimpleNamespace(folder=folder, report=report, pipeline=pipeline, part=part, run=run)


def test_every_part_is_written_and_agrees_with_torch(exported):
    check_files(exported.folder, exported.pipeline)
    assert exported.pipeline.engine == "executorch"
    assert exported.pipeline.side == SIDE
    assert {part.name for part in exported.report.parts} == set(exported.pipeline.parts)
    assert all(part.error < 1e-4 for part in exported.report.parts)


@torch.no_grad()
def test_exported_unet_with_a_lora_equals_torch_with_it(exported):
    factors = draw_factors(exported.pipeline.projections, 7, seed=1)
    inputs = draw_inputs(exported.pipeline.channels)
    given = [factors[name] for name in factor_names(exported.part.projections)]
    wanted = exported.part.load()(*inputs.values(), given)
    assert error(exported.run(factors), wanted) < 1e-3


def test_swapping_loras_leaves_nothing_behind(exported):
    slots = exported.pipeline.projections
    first, second = draw_factors(slots, 6, seed=1), draw_factors(slots, 40, seed=2)
    none = draw_factors(slots, 1, seed=0, deviation=0)
    alone = exported.run(first).clone()
    others = [exported.run(factors).clone() for factors in (second, none)]
    assert torch.equal(exported.run(first), alone)
    assert all(error(other, alone) > 1e-3 for other in others)


def test_a_lora_of_the_largest_rank_runs(exported):
    factors = draw_factors(
        exported.pipeline.projections, exported.pipeline.rank, seed=1, deviation=0.01
    )
    assert exported.run(factors).isfinite().all()


def test_pictures_are_those_of_onnx_runtime(exported, exported_none):
    pictures = []
    for folder, backend in ((exported.folder, "executorch"), (exported_none, "onnxruntime")):
        pipeline = Pipeline.load(folder, backend, threads=1)
        pipeline.set_pair(LORAS / "votol.safetensors", LORAS / "neon.safetensors", method="direct")
        size = (SIDE * 4, SIDE * 4)
        pictures.append(np.asarray(pipeline.generate("a votol cup in neon style", size=size)) / 255)
    assert psnr(*pictures) > 40


def test_layers_of_unequal_ranks_are_filled_up(exported):
    pipeline = Pipeline.load(exported.folder, "executorch", threads=1)
    content = load_lora(LORAS / "votol.safetensors")
    some = Lora(dict(list(content.layers.items())[::3]))
    pictures = []
    for lora in (some, weighted_sum(content, some, {}, 0.0, 1.0)):
        pipeline.load_lora(materialise(lora))
        pictures.append(pipeline.generate("a votol cup", steps=2).tobytes())
    assert pictures[0] == pictures[1]


def test_a_damaged_program_is_found_before_the_engine_sees_it(exported, tmp_path):
    folder = Path(shutil.copytree(exported.folder, tmp_path / "copy"))
    file = folder / "unet" / "mid_block.pte"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for check_hashes in (True, False):
        with pytest.raises(LorararError, match=r"mid_block\.pte"):
            Pipeline.load(folder, "executorch", check_hashes=check_hashes)
    with pytest.raises(LorararError, match="draws 32x32 only"):
        Pipeline.load(exported.folder, "executorch").generate("a cup", size=(64, 64))


def test_too_little_memory_to_load_is_one_line(exported):
    for spare in (1 << 20, 16 << 20):
        said = loaded_cramped(exported.folder, "executorch", spare)
        assert "memory here" in said
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "width", "bound"),
    [
        ("down_blocks.0.0", "int8", 2e-2),
        ("down_blocks.0.0", "int4", 1e-1),
        pytest.param("down_blocks.2.0", "int8", 3e-2, marks=pytest.mark.slow),
        pytest.param("down_blocks.2.0", "int4", 3e-1, marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_quantised_stage_stays_near_torch_and_is_smaller(name, width, bound, exported):
    with open_model("mini", None) as model:
        with torch.device("meta"):
            stages = stages_of(unet_part(model, 1, SIDE), attend)
        stage = next(stage for stage in stages if stage.name == f"unet.{name}")
        inputs, factors = random_inputs(stage, model)
        loaded = stage.loaded()
        wanted = loaded.run(inputs | factors)[stage.outputs[0]]
        program = lower(loaded, width, "xnnpack")
    runnable = Runtime.get().load_program(program)
    arguments = [*inputs.values(), *factors.values()]
    found = runnable.load_method("forward").execute(arguments)[0]
    assert 1e-5 < error(found, wanted) < bound
    plain = exported.pipeline.files[f"unet/{name}.pte"][0]
    assert len(program) < 0.5 * plain


def test_what_cannot_be_exported_is_refused(tmp_path, exported):
    refusals = [
        (exported.folder, {}, "exists"),
        (tmp_path / "new", {"quantize": "fp16"}, "one of none, int8, int4"),
        (tmp_path / "new", {"delegate": "qnn"}, "SDK"),
        (tmp_path / "new", {"delegate": "coreml", "quantize": "int8"}, "one of none"),
        (tmp_path / "new", {"side": 6}, "multiple of 4"),
    ]
    with open_model("mini", None) as model:
        for path, options, message in refusals:
            with pytest.raises(LorararError, match=message):
                export_pipeline(model, path, **options)
    assert not (tmp_path / "new").exists()
