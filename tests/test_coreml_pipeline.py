"""Pipelines in Core ML: what is written is what was asked for. Nothing is predicted with here."""

import logging
import subprocess
import sys
from types import SimpleNamespace

import coremltools as ct
import numpy as np
import pytest
import torch

from lorarar.artefacts.formats import LARGEST_RANK
from lorarar.artefacts.pipeline import check_files, read_manifest
from lorarar.errors import LorararError
from lorarar.export.coreml import pipeline as coreml_pipeline
from lorarar.export.coreml.check import (
    _features,
    check_spec,
    compare,
    feature_name,
    inputs_of,
    is_large,
    weight_errors,
)
from lorarar.export.coreml.convert import compress
from lorarar.export.coreml.pipeline import PARTS, check_weights, export_pipeline
from lorarar.export.factors import factor_names
from lorarar.export.parts import build_part, random_inputs
from lorarar.export.report import size_in_megabytes
from lorarar.export.source import open_model
from lorarar.export.stages import stages_of
from lorarar.runtime.backends import coreml

SIDE = 8
ONE = (1, 1)


@pytest.fixture(scope="module")
def exported(untrained, tmp_path_factory):
    """A pipeline of an untrained model, exported in float16 for latents of 8 by 8."""
    logging.disable(logging.WARNING)
    folder = tmp_path_factory.mktemp("coreml") / "pipeline"
    with open_model(str(untrained), None) as model:
        report = export_pipeline(model, folder, side=SIDE)
        parts = {name: build_part(name, model, 1, SIDE) for name in PARTS}
    logging.disable(logging.NOTSET)
    packages = {name: folder / name / "model.mlpackage" for name in PARTS}
    specs = {name: ct.utils.load_spec(str(package)) for name, package in packages.items()}
    return SimpleNamespace(
        folder=folder, report=report, parts=parts, packages=packages, specs=specs
    )


@pytest.fixture(scope="module")
def staged(untrained, tmp_path_factory):
    """The same model's UNet in float16, as if it were too large for one package."""
    logging.disable(logging.WARNING)
    folder = tmp_path_factory.mktemp("coreml") / "staged"
    with open_model(str(untrained), None) as model, pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreml_pipeline, "LARGEST_PACKAGE", 1_000)
        patch.setattr(coreml_pipeline, "PARTS", ("unet",))
        report = export_pipeline(model, folder, side=SIDE)
        with torch.device("meta"), torch.no_grad():
            whole = build_part("unet", model, 1, SIDE)
            stages = stages_of(whole)
        inputs, factors = random_inputs(whole, model)
    logging.disable(logging.NOTSET)
    written = read_manifest(folder).parts["unet"]
    packages = [folder / stage.file for stage in written]
    return SimpleNamespace(
        folder=folder,
        report=report,
        whole=whole,
        parts=stages,
        written=written,
        packages=packages,
        specs=[ct.utils.load_spec(str(package)) for package in packages],
        values=inputs | factors,
    )


def shapes(features):
    return {each.name: list(each.type.multiArrayType.shape) for each in features}


def operations(spec):
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    return block.operations


def test_packages_are_for_ios_18(exported):
    assert {spec.specificationVersion for spec in exported.specs.values()} == {9}


def test_the_unet_takes_canonical_factors_of_any_rank(exported):
    unet = exported.parts["unet"]
    inputs = {
        each.name: each.type.multiArrayType for each in exported.specs["unet"].description.input
    }
    assert list(inputs)[:5] == list(unet.inputs)
    names = [name.replace("__", ".") for name in list(inputs)[5:]]
    assert names == list(factor_names(unet.projections))
    for layer, (out, width) in unet.projections.items():
        for suffix, fixed, axis in (("lora_A", width, 0), ("lora_B", out, 1)):
            factor = inputs[feature_name(f"unet.{layer}.{suffix}.weight")]
            sizes = [(s.lowerBound, s.upperBound) for s in factor.shapeRange.sizeRanges]
            assert sizes[axis] == (1, LARGEST_RANK)
            assert sizes[1 - axis] == (fixed, fixed)


def test_batch_and_side_are_fixed(exported):
    unet, vae = exported.specs["unet"].description, exported.specs["vae_decoder"].description
    assert shapes(unet.input)["sample"] == shapes(unet.output)["out_sample"] == [1, 8, SIDE, SIDE]
    assert shapes(vae.input) == {"latent_sample": [1, 8, SIDE, SIDE]}
    assert shapes(vae.output) == {"sample": [1, 3, 4 * SIDE, 4 * SIDE]}


def test_encoders_take_int32_and_give_every_hidden_state(exported):
    first, second = (exported.specs[f"text_encoder{n}"].description for n in ("", "_2"))
    (ids,) = first.input
    assert ids.type.multiArrayType.dataType == ct.proto.FeatureTypes_pb2.ArrayFeatureType.INT32
    hidden = ["hidden_states__0", "hidden_states__1"]
    assert list(shapes(first.output)) == ["last_hidden_state", "pooler_output", *hidden]
    assert list(shapes(second.output)) == ["text_embeds", "last_hidden_state", *hidden]


def test_the_decoder_and_sinusoids_compute_in_float32(exported):
    kinds = {
        name: {
            (op.type, out.type.tensorType.dataType) for op in operations(spec) for out in op.outputs
        }
        for name, spec in exported.specs.items()
    }
    half, single = ct.proto.MIL_pb2.FLOAT16, ct.proto.MIL_pb2.FLOAT32
    assert {("conv", single), ("constexpr_cast", single)} <= kinds["vae_decoder"]
    assert not any(dtype == half for _, dtype in kinds["vae_decoder"])
    assert {("sin", single), ("cos", single), ("conv", half)} <= kinds["unet"]
    casts = [op for op in operations(exported.specs["unet"]) if op.type == "cast"]
    cast = {op.inputs["x"].arguments[0].name for op in casts}
    assert "encoder_hidden_states" in cast
    assert not {"timestep", "time_ids"} & cast


def test_fewer_bits_are_smaller_and_close_to_the_original(staged, tmp_path):
    index = [part.name for part in staged.parts].index("unet.mid_block")
    part, plain_package = staged.parts[index], staged.packages[index]
    sizes = {"fp16": size_in_megabytes(plain_package)}
    errors = {"fp16": check_weights(part, plain_package, "fp16")}
    plain = ct.models.MLModel(str(plain_package), skip_model_load=True)
    outputs = {"mid_block__resnets__1": ("float32", [ONE, (160, 160), (2, 2), (2, 2)])}
    for width in ("int8", "palette4"):
        package = tmp_path / f"{width}.mlpackage"
        compress(plain, width).save(str(package))
        sizes[width] = size_in_megabytes(package)
        errors[width] = check_weights(part, package, width)
        assert check_spec(package, inputs_of(part), outputs, "float16")
    assert sizes["int8"] < 0.6 * sizes["fp16"]
    assert sizes["palette4"] < 0.6 * sizes["int8"]
    assert errors["fp16"] < errors["int8"] < errors["palette4"]
    with pytest.raises(LorararError, match=r"too much for int8"):
        check_weights(part, tmp_path / "palette4.mlpackage", "int8")


def test_six_bits_are_between_four_and_eight(exported, tmp_path):
    part = exported.parts["text_encoder_2"]
    plain = ct.models.MLModel(str(exported.packages[part.name]), skip_model_load=True)
    errors = []
    for width in ("int8", "palette6", "palette4"):
        compress(plain, width).save(str(tmp_path / f"{width}.mlpackage"))
        errors.append(check_weights(part, tmp_path / f"{width}.mlpackage", width))
    assert errors == sorted(errors)


def test_every_large_weight_is_found_in_the_package(exported):
    part = exported.parts["unet"]
    errors = weight_errors(exported.packages["unet"], part.prefix, part.weights)
    large = {name for name, weight in part.weights.items() if is_large(weight)}
    assert errors.keys() == large


def test_the_manifest_keeps_canonical_names(exported):
    pipeline = read_manifest(exported.folder)
    check_files(exported.folder, pipeline)
    assert (pipeline.engine, pipeline.side) == ("coreml", SIDE)
    (encoder,), (unet,) = pipeline.parts["text_encoder"], pipeline.parts["unet"]
    assert encoder.inputs == {"input_ids": ("int32", [1, 16])}
    assert pipeline.penultimate["text_encoder"] in encoder.outputs
    assert unet.inputs["sample"] == ("float32", [1, 8, SIDE, SIDE])
    assert unet.projections == exported.parts["unet"].projections


def test_the_report_says_that_nothing_ran(exported):
    assert all(part.error is None for part in exported.report.parts)
    assert "not run" in exported.report.notes[0]


def test_a_spec_unlike_the_part_is_told(exported):
    vae = exported.parts["vae_decoder"]
    outputs = {"sample": ("float32", [ONE, (3, 3), (32, 32), (32, 32)])}
    assert check_spec(exported.packages["vae_decoder"], inputs_of(vae), outputs, "float32")
    with pytest.raises(LorararError, match="takes not what was exported"):
        check_spec(exported.packages["vae_decoder"], {}, outputs, "float32")
    with pytest.raises(LorararError, match="gives not what was exported"):
        check_spec(exported.packages["vae_decoder"], inputs_of(vae), {}, "float32")
    with pytest.raises(LorararError, match="is not in float16"):
        check_spec(exported.packages["vae_decoder"], inputs_of(vae), outputs, "float16")


def test_a_large_unet_is_a_package_per_stage(exported, staged):
    check_files(staged.folder, read_manifest(staged.folder))
    assert len(staged.packages) == len(set(staged.packages)) == 12
    known = set(staged.whole.inputs)
    for stage in staged.written:
        assert known >= stage.inputs.keys()
        known |= set(stage.outputs)
    assert staged.written[-1].outputs == ["out_sample"]
    layers = {name: shape for stage in staged.written for name, shape in stage.projections.items()}
    assert layers == exported.parts["unet"].projections
    assert staged.report.notes[1].startswith("unet in 12 packages: weights' error ")
    assert len(staged.report.notes) == 2


def test_stages_hold_every_large_weight_once(staged):
    held = [
        name
        for part, package in zip(staged.parts, staged.packages, strict=True)
        for name in weight_errors(package, part.prefix, part.weights)
    ]
    assert sorted(held) == sorted(
        name for name, weight in staged.whole.weights.items() if is_large(weight)
    )


def test_stages_attend_as_the_whole_unet_does(exported, staged):
    def kinds(*specs):
        return [op.type for spec in specs for op in operations(spec)]

    attends = "scaled_dot_product_attention"
    assert kinds(*staged.specs).count(attends) == kinds(exported.specs["unet"]).count(attends) > 0
    assert "softmax" not in kinds(*staged.specs)


@pytest.fixture
def predicting(staged, monkeypatch):
    """In place of Core ML, torch answers what fits a package's spec."""

    class Answering:
        def __init__(self, package):
            index = [*map(str, staged.packages)].index(package)
            self.part, self.wanted = staged.parts[index], staged.specs[index].description.input

        def predict(self, feeds):
            wanted = _features(self.wanted)
            assert feeds.keys() == wanted.keys()
            for name, array in feeds.items():
                dtype, sizes = wanted[name]
                assert array.dtype == dtype
                assert all(
                    low <= size <= high
                    for size, (low, high) in zip(array.shape, sizes, strict=True)
                )
            values = {
                name.replace("__", "."): torch.from_numpy(each).float()
                for name, each in feeds.items()
            }
            answers = self.part.loaded().run(values)
            return {feature_name(name): answer.numpy() for name, answer in answers.items()}

    monkeypatch.setattr(ct.models, "MLModel", Answering)


def test_the_check_compares_stage_by_stage(staged, predicting):
    found = [*compare(staged.packages, staged.parts, staged.values)]
    outputs = [(part.name, output) for part in staged.parts for output in part.outputs]
    assert [(name, output) for name, output, _, _ in found] == outputs
    assert all(error < 1e-3 and psnr > 60 for _, _, error, psnr in found)


@torch.no_grad()
def test_the_runtime_runs_stages_one_after_another(exported, staged, predicting, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    values = {name: value.numpy() for name, value in staged.values.items()}
    factors = {
        name: values.pop(name).astype(np.float16) for name in factor_names(staged.whole.projections)
    }
    for package, stage in zip(staged.packages, staged.written, strict=True):
        values |= coreml.open_stage(package, stage, 1)(values | factors)
    whole = exported.parts["unet"]
    whole.load()
    wanted = whole.run(staged.values)["out_sample"].numpy()
    assert np.linalg.norm(values["out_sample"] - wanted) < 1e-3 * np.linalg.norm(wanted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exists already"),
        ({"quantize": "int4", "force": True}, "int4: unknown for Core ML"),
        ({"side": 6, "force": True}, "side 6: .* multiple of 4"),
    ],
)
def test_what_cannot_be_is_refused_at_once(untrained, tmp_path, arguments, message):
    with (
        open_model(str(untrained), None) as model,
        pytest.raises(LorararError, match=message),
    ):
        export_pipeline(model, tmp_path, **arguments)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS predicts")
def test_the_check_of_answers_asks_for_macos(exported):
    command = [sys.executable, "export/check_coreml.py", exported.folder, "--model", "mini"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        f"error: {exported.folder}: Core ML predicts on macOS only; run this script there"
    )
