"""Drawing from an exported folder: what the runtime's users rely on."""

import doctest
import inspect
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from safetensors.numpy import load_file, save_file

import lorarar.runtime
from lorarar.artefacts.pipeline import slot_inputs
from lorarar.artefacts.training import load_manifest
from lorarar.diffusion.pipeline import load_pipeline, runtime_noise
from lorarar.diffusion.scheduled import scheduled
from lorarar.embedded import HYPERNET, LORAS
from lorarar.errors import LorararError
from lorarar.export.onnx.adapter import export_adapter
from lorarar.hypernet import load_hypernet
from lorarar.lora import Layer, Lora, load_lora
from lorarar.methods import merge
from lorarar.methods.options import MergeOptions
from lorarar.methods.scheduled import SCHEDULED
from lorarar.prepare import prepare
from lorarar.runtime.merger import Merger
from lorarar.runtime.pipeline import Pipeline
from lorarar.runtime.samplers import SAMPLERS
from lorarar.runtime.slots import factors_at, pair_factors
from lorarar.save import save_lora

PAIR = LORAS / "votol.safetensors", LORAS / "neon.safetensors"
PROMPTS = ["a red cup on grass", "a votol cup on grass in neon style"]
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def pipeline(exported_int8):
    return Pipeline.load(exported_int8, threads=1)


def psnr(found, wanted):
    return float(-10 * np.log10(np.square(found - wanted).mean()))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"guidance": float("nan")}, "guidance nan: must be a finite number"),
        ({"guidance": float("inf")}, "guidance inf: must be a finite number"),
        ({"guidance": 1e30}, "pixels that are not finite; lower guidance"),
        ({"seed": -1}, "seed -1: must be 0 or more"),
    ],
)
def test_numbers_that_would_draw_nothing_are_refused(pipeline, options, wanted):
    with np.errstate(all="ignore"), pytest.raises(LorararError, match=wanted):
        pipeline.generate("a cup", steps=2, **options)


def test_other_sizes_can_be_drawn(pipeline):
    pipeline.load_lora(None)
    assert pipeline.generate(PROMPTS[0], steps=2, size=(96, 64)).size == (96, 64)
    with pytest.raises(LorararError, match="multiples of 16"):
        pipeline.generate(PROMPTS[0], size=(90, 64))


def test_cancelling_leaves_a_usable_pipeline(pipeline):
    pipeline.load_lora(PAIR[0])
    wanted = pipeline.generate(PROMPTS[0], steps=3)
    drawing = pipeline.steps(PROMPTS[0], steps=3)
    next(drawing)
    assert pipeline.generate(PROMPTS[0], steps=3).tobytes() == wanted.tobytes()


def test_each_step_has_latents_and_the_last_are_the_picture(pipeline):
    pipeline.load_lora(PAIR[0])
    wanted = pipeline.generate(PROMPTS[0], steps=3)
    latents = list(pipeline.steps(PROMPTS[0], steps=3))
    assert [each.shape for each in latents] == [(1, 8, 16, 16)] * 3
    pictures = [pipeline.decode(each).tobytes() for each in latents]
    assert pictures[2] == wanted.tobytes() != pictures[1]


def test_loras_loaded_between_steps_are_for_the_next_picture(pipeline):
    pipeline.load_lora(PAIR[0])
    wanted = pipeline.generate(PROMPTS[0], steps=2).tobytes()
    drawing = pipeline.steps(PROMPTS[0], steps=2)
    next(drawing)
    pipeline.set_pair(*PAIR)
    assert pipeline.decode(next(drawing)).tobytes() == wanted
    assert pipeline.generate(PROMPTS[0], steps=2).tobytes() != wanted


def test_prepared_loras_draw_as_plain_ones(exported_none, tmp_path):
    """In float32, as the rounding of features to float16 makes int8 round some values otherwise."""
    pipeline = Pipeline.load(exported_none, threads=1)
    hypernet = load_hypernet(HYPERNET)
    prepared = []
    for role, path in zip(("content", "style"), PAIR, strict=True):
        prepared.append(tmp_path / path.name)
        save_lora(prepare(load_lora(path), hypernet, role, "full-fp16"), prepared[-1])
    pictures = []
    for pair in (PAIR, prepared):
        pipeline.set_pair(*pair)
        pictures.append(np.asarray(pipeline.generate(PROMPTS[1], steps=4)) / 255)
    assert psnr(*pictures) > 60


def test_pairs_whose_layers_and_ranks_differ_draw_as_their_merged_lora(exported_none, tmp_path):
    content, style = (load_lora(path).layers for path in PAIR)
    names = sorted(content)
    half = {
        name: Layer(np.asarray(layer.up)[:, :3], np.asarray(layer.down)[:3], layer.scale)
        for name, layer in style.items()
    }
    one = Lora({name: content[name] for name in names[2:]})
    other = Lora({name: half[name] if name in names[::2] else style[name] for name in names[:-3]})
    pipeline = Pipeline.load(exported_none, threads=1)
    paths = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    for lora, path in zip((one, other), paths, strict=True):
        save_lora(lora, path)
    pipeline.set_pair(*paths)
    *_, found = pipeline.steps(PROMPTS[1], steps=3)
    pipeline.load_lora(merge(one, other, hypernet=load_hypernet(HYPERNET)))
    *_, wanted = pipeline.steps(PROMPTS[1], steps=3)
    assert psnr(found, wanted) > 60


def drawn_in_torch(content, style, weights):
    """Latents of a pair with coefficients that change, from the runtime's noise."""
    pipeline = load_pipeline()
    with scheduled(pipeline, content, style, weights) as arguments, torch.no_grad():
        return pipeline(
            PROMPTS[1],
            latents=runtime_noise(pipeline, 0),
            num_inference_steps=4,
            guidance_scale=5.0,
            output_type="latent",
            **arguments,
        ).images.numpy()


@pytest.mark.parametrize("method", [*SCHEDULED, "a function"])
def test_coefficients_that_change_at_each_step_draw_as_in_torch(exported_none, method):
    pipeline = Pipeline.load(exported_none, threads=1)
    content, style = (load_lora(path) for path in PAIR)
    if method in SCHEDULED:
        weights = SCHEDULED[method](content, style, MergeOptions())
        pipeline.set_pair(*PAIR, method=method)
    else:

        def weights(layer, done):
            return (1 - done, 0.2) if "attn1" in layer else (0.0, 1 + done)

        pipeline.set_pair(*PAIR, method="direct", schedule=weights)
    *_, found = pipeline.steps(PROMPTS[1], steps=4)
    assert np.abs(found - drawn_in_torch(content, style, weights)).max() < 1e-3
    pipeline.set_pair(*PAIR, method="direct")
    *_, plain = pipeline.steps(PROMPTS[1], steps=4)
    assert np.abs(found - plain).max() > 0.1


def test_a_schedule_multiplies_what_the_hypernetwork_predicts(exported_none):
    pipeline = Pipeline.load(exported_none, threads=1)
    pipeline.set_pair(*PAIR)
    *_, wanted = pipeline.steps(PROMPTS[1], steps=3)
    pipeline.set_pair(*PAIR, content_scale=0.5, schedule=lambda layer, done: (2.0, 1.0))
    *_, found = pipeline.steps(PROMPTS[1], steps=3)
    assert np.array_equal(found, wanted)
    pipeline.set_pair(*PAIR, schedule=lambda layer, done: (0.0, 1.0 if done else 0.0))
    first, *_, last = pipeline.steps(PROMPTS[1], steps=3)
    pipeline.load_lora(None)
    bare, *_, without = pipeline.steps(PROMPTS[1], steps=3)
    assert np.array_equal(first, bare) and np.abs(last - without).max() > 0.1
    with pytest.raises(LorararError, match="'svd' takes no schedule; give one with lorarar or d"):
        pipeline.set_pair(*PAIR, method="svd", schedule=lambda layer, done: (1.0, 1.0))


def test_where_projections_have_one_slot_both_loras_are_joined_in_it(pipeline):
    pair = [load_lora(path) for path in PAIR]
    manifest = replace(pipeline.manifest, pairs=False, slot_dtype="float32")
    apart = pair_factors(pair, {}, (0.5, 1.0), manifest, source="here")
    name = next(iter(manifest.projections))
    factors = factors_at(0.25, lambda layer, done: (2.0, done), apart, manifest)
    down, up, _ = slot_inputs(name)
    one, other = (reference.dense(*lora.layers[f"unet.{name}"]) for lora in pair)
    assert np.allclose(factors[up] @ factors[down], one + 0.25 * other, atol=1e-5)
    alone = factors_at(0.25, lambda layer, done: (0.0, 1.0), apart, manifest)
    assert alone[down].shape[0] == pair[1].layers[f"unet.{name}"].rank
    with pytest.raises(LorararError, match=r"votol\.safetensors and .*has rank 12.*takes 11"):
        pair_factors(pair, {}, (1, 1), replace(manifest, rank=11), source="here")


def test_schedules_of_a_pair_are_chosen_once(exported_int8):
    pipeline = Pipeline.load(exported_int8, threads=1)
    pipeline.set_pair(*PAIR, method="klora")
    chosen = pipeline.weights
    pipeline.load_lora(None)
    assert pipeline.weights is None
    pipeline.set_pair(*PAIR, method="klora", style_scale=0.5)
    assert pipeline.weights is chosen


def test_loras_used_last_are_kept_and_changed_files_read_again(exported_int8, tmp_path):
    pipeline = Pipeline.load(exported_int8, threads=1)
    path = shutil.copy(PAIR[0], tmp_path / "lora.safetensors")
    pipeline.load_lora(path)
    made, first = pipeline.cache.made, pipeline.factors
    pipeline.load_lora(PAIR[1])
    pipeline.load_lora(path)
    assert pipeline.factors is first
    shutil.copy(PAIR[1], path)
    pipeline.load_lora(path)
    assert pipeline.factors is not first
    for number in range(12):
        pipeline.load_lora(shutil.copy(PAIR[0], tmp_path / f"{number}.safetensors"))
    assert len(made.values) == 8
    one = sum(factor.nbytes for factor in pipeline.factors.values())
    made.most_bytes = 3 * one
    for number in range(5):
        pipeline.load_lora(shutil.copy(PAIR[0], tmp_path / f"{number}.safetensors"))
    assert len(made.values) == 3
    made.most_bytes = 0
    pipeline.load_lora(path)
    assert [*made.values.values()] == [pipeline.factors]


def copied(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_damaged_file_is_found_before_the_engine_reads_it(exported_int8, tmp_path):
    folder = copied(exported_int8, tmp_path)
    data = folder / "unet" / "model.onnx_data"
    content = bytearray(data.read_bytes())
    content[1000] ^= 1
    data.write_bytes(content)
    with pytest.raises(LorararError, match=r"model\.onnx_data: its SHA-256"):
        Pipeline.load(folder)
    data.write_bytes(content[:5000])
    with pytest.raises(LorararError, match=r"model\.onnx_data: its size"):
        Pipeline.load(folder, check_hashes=False)
    data.unlink()
    with pytest.raises(LorararError, match=r"model\.onnx_data: is missing"):
        Pipeline.load(folder)


def test_newer_formats_and_other_engines_are_refused(exported_int8, tmp_path):
    folder = copied(exported_int8, tmp_path)
    manifest = json.loads((folder / "lorarar.json").read_text())
    with pytest.raises(LorararError, match="was exported for onnxruntime"):
        Pipeline.load(folder, "executorch")
    for change, said in (
        ({"format": "lorarar.pipeline.3"}, "lorarar.pipeline.3"),
        ({"parts": {"unet": [{"file": "../../x"}]}}, "damaged"),
        ({"files": {"/etc/passwd": [1, "x"]}}, "outside the folder"),
    ):
        (folder / "lorarar.json").write_text(json.dumps(manifest | change))
        with pytest.raises(LorararError, match=said):
            Pipeline.load(folder)


def test_loras_that_do_not_fit_are_refused_and_the_one_before_stays(pipeline, tmp_path):
    pipeline.load_lora(PAIR[0])
    before = pipeline.factors
    name = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    bad = {
        "rank 600": (600, 96, 96),
        "another base model": (2, 640, 640),
    }
    for said, (rank, width, out) in bad.items():
        path = tmp_path / f"{rank}.safetensors"
        save_file(
            {
                f"{name}.lora_A.weight": np.ones((rank, width), np.float32),
                f"{name}.lora_B.weight": np.ones((out, rank), np.float32),
            },
            path,
        )
        with pytest.raises(LorararError, match=said):
            pipeline.load_lora(path)
        assert pipeline.factors is before
    with pytest.raises(LorararError, match="cannot be read"):
        pipeline.load_lora(tmp_path / "none.safetensors")


def test_bad_weights_of_a_pair_are_refused_by_name_and_the_pair_before_stays(pipeline, tmp_path):
    pipeline.set_pair(*PAIR)
    before = pipeline.factors
    tensors = load_file(PAIR[1])
    name = next(name for name in tensors if "to_k.lora_B" in name)
    tensors[name][0, 0] = -np.inf
    save_file(tensors, tmp_path / "bad.safetensors")
    layer = name.removesuffix(".lora_B.weight")
    with pytest.raises(LorararError, match=rf"bad\.safetensors: layer '{layer}' has NaN"):
        pipeline.set_pair(PAIR[0], tmp_path / "bad.safetensors")
    with pytest.raises(LorararError, match="smaller scales"):
        pipeline.set_pair(*PAIR, style_scale=1e39)
    assert pipeline.factors is before


def test_forgetting_loras_leaves_the_one_that_draws(pipeline):
    pipeline.set_pair(*PAIR)
    before = pipeline.factors
    pipeline.forget()
    assert not pipeline.cache.made.values and not pipeline.cache.opened.values
    assert pipeline.factors is before
    pipeline.set_pair(*PAIR)
    assert all(np.array_equal(pipeline.factors[name], before[name]) for name in before)


def test_opened_loras_are_read_again_when_they_changed(pipeline, tmp_path):
    path = Path(shutil.copy(PAIR[0], tmp_path / "lora.safetensors"))
    pipeline.set_pair(path, PAIR[1])
    other = shutil.copy(LORAS / "jumek.safetensors", tmp_path / "other.safetensors")
    os.replace(other, path)
    pipeline.set_pair(path, PAIR[1])
    found = pipeline.factors
    pipeline.set_pair(LORAS / "jumek.safetensors", PAIR[1])
    assert all(np.array_equal(found[name], pipeline.factors[name]) for name in found)


def test_adapters_draw_as_the_loras_they_were_made_of(pipeline, exported_int8, tmp_path):
    path = tmp_path / "votol.onnx_adapter"
    export_adapter(PAIR[0], exported_int8, path)
    pipeline.load_lora(PAIR[0])
    wanted = pipeline.factors
    pipeline.load_lora(path)
    assert pipeline.factors.keys() == wanted.keys()
    assert all(np.array_equal(pipeline.factors[name], wanted[name]) for name in wanted)
    for size in (0, 4, 1000, path.stat().st_size // 2):
        damaged = tmp_path / f"{size}.onnx_adapter"
        damaged.write_bytes(path.read_bytes()[:size])
        with pytest.raises(LorararError, match=rf"{size}\.onnx_adapter: no usable adapter"):
            pipeline.load_lora(damaged)


CRAMPED = """
import resource, sys
from pathlib import Path
from lorarar.errors import LorararError
from lorarar.runtime.backends import load_backend
from lorarar.runtime.pipeline import Pipeline
from lorarar.runtime.samplers import SAMPLERS
folder, backend, spare = sys.argv[1:]
load_backend(backend)
used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + int(spare),) * 2)
try:
    Pipeline.load(folder, backend, threads=1)
except LorararError as error:
    print(error)
"""


def loaded_cramped(folder, backend, spare):
    """What a process says that may take `spare` bytes more to load a pipeline."""
    command = map(str, (sys.executable, "-c", CRAMPED, folder, backend, spare))
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_too_little_memory_to_load_is_one_line(exported_int8):
    for spare in (MEGABYTE, 4 * MEGABYTE):
        said = loaded_cramped(exported_int8, "onnxruntime", spare)
        assert "memory here" in said and said.count("\n") == 1


FRESH = """
import sys
from lorarar.methods.factored import FACTORED
from lorarar.methods.scheduled import SCHEDULED
from lorarar.runtime.pipeline import Pipeline
from lorarar.runtime.samplers import SAMPLERS
folder, content, style, prompt, seed, output = sys.argv[1:]
pipeline = Pipeline.load(folder, threads=1)
for method in (*SCHEDULED, *reversed(FACTORED)):
    pipeline.set_pair(content, style, method=method)
pipeline.generate(prompt, steps=2, seed=int(seed)).save(output)
imported = {"torch", "diffusers", "transformers", "peft"} & set(sys.modules)
assert not imported, imported
"""


def drawn_afresh(folder, content, style, prompt, seed, output):
    """By a process that does nothing else, without torch."""
    command = [sys.executable, "-c", FRESH, folder, content, style, prompt, seed, output]
    subprocess.run(list(map(str, command)), check=True)
    from PIL import Image

    return Image.open(output).tobytes()


def resident_megabytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / MEGABYTE


def test_two_hundred_swaps_and_pictures_leave_memory_flat_and_results_as_fresh(
    exported_int8, tmp_path
):
    pipeline = Pipeline.load(exported_int8, threads=1)
    manifest = load_manifest(LORAS)
    content, style = (
        [entry.file for entry in manifest.of(kind, held_out=True)] for kind in ("content", "style")
    )
    generator = np.random.default_rng(0)
    for number in range(200):
        pair = generator.choice(content), generator.choice(style)
        pipeline.set_pair(*pair)
        picture = pipeline.generate(PROMPTS[1], steps=2, seed=number)
        if number == 40:
            before = resident_megabytes()
    assert resident_megabytes() - before < 20
    afresh = drawn_afresh(exported_int8, *pair, PROMPTS[1], 199, tmp_path / "fresh.png")
    assert picture.tobytes() == afresh


def test_threads_that_ask_at_once_are_served_one_after_another(pipeline):
    pipeline.load_lora(None)
    seeds = range(4)
    wanted = [pipeline.generate(PROMPTS[0], steps=3, seed=seed).tobytes() for seed in seeds]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda seed: pipeline.generate(PROMPTS[0], steps=3, seed=seed), seeds)
        assert [picture.tobytes() for picture in found] == wanted


def test_few_step_samplers_draw(pipeline):
    pipeline.load_lora(None)
    for sampler in SAMPLERS:
        picture = pipeline.generate(PROMPTS[0], steps=4, guidance=1, sampler=sampler)
        assert np.asarray(picture).std() > 5
    with pytest.raises(LorararError, match="sampler 'odd'"):
        pipeline.generate(PROMPTS[0], sampler="odd")


def test_a_folder_without_a_hypernetwork_says_so(exported_int8, tmp_path):
    folder = copied(exported_int8, tmp_path)
    manifest = json.loads((folder / "lorarar.json").read_text())
    (folder / "lorarar.json").write_text(json.dumps(manifest | {"merger": None}))
    pipeline = Pipeline.load(folder)
    with pytest.raises(LorararError, match="has no hypernetwork"):
        pipeline.set_pair(*PAIR)
    pipeline.set_pair(*PAIR, method="direct")
    assert pipeline.factors


def test_empty_prompts_draw(pipeline):
    pipeline.load_lora(None)
    assert pipeline.generate("", negative_prompt="", steps=1).size == (64, 64)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        *(
            (each, rf"is not for devices.*lorarar merge --method {each} -o merged\.safetensors")
            for each in ("ties", "dare", "dare-ties", "ziplora")
        ),
        ("best", "is unknown; devices know lorarar, direct, linear, svd, np, klora, est$"),
    ],
)
def test_methods_that_devices_do_not_know_are_refused_with_what_to_do(pipeline, method, said):
    pipeline.set_pair(*PAIR)
    before = pipeline.factors
    with pytest.raises(LorararError, match=f"method '{method}' {said}"):
        pipeline.set_pair(*PAIR, method=method)
    assert pipeline.factors is before


def test_engines_that_run_hypernetworks_only_are_refused(exported_int8):
    with pytest.raises(LorararError, match="'numpy' runs hypernetworks only; use one of onnx"):
        Pipeline.load(exported_int8, "numpy")


@pytest.mark.parametrize(
    "module",
    [
        "runtime",
        "pipeline",
        "cache",
        "conditioning",
        "merger",
        "noise_schedule",
        "tokenizer",
        "backends",
    ],
)
def test_examples_of_docstrings_run(module, exported_int8):
    name = "lorarar.runtime" if module == "runtime" else f"lorarar.runtime.{module}"
    given = {
        "exported": exported_int8,
        "artefact": exported_int8 / "merger.onnx",
        "checkpoint": HYPERNET,
        "content": PAIR[0],
        "style": PAIR[1],
    }
    done = doctest.testmod(import_module(name), extraglobs=given)
    assert done.attempted and not done.failed


def test_every_public_entrance_of_the_runtime_has_an_example():
    entrances = [getattr(lorarar.runtime, name) for name in lorarar.runtime.__all__]
    entrances = [each for each in entrances if inspect.isfunction(each)]
    for kind in (Pipeline, Merger):
        members = inspect.getmembers(kind, lambda each: inspect.isroutine(each))
        entrances += [member for name, member in members if name[0] != "_"]
    assert len(entrances) > 8
    assert [each.__qualname__ for each in entrances if ">>>" not in each.__doc__] == []
