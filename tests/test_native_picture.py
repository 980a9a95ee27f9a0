"""The runner in C++ draws the Python runtime's pictures, and refuses bad folders in one line."""

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from lorarar import load_hypernet, load_lora, save_lora
from lorarar.artefacts.formats import Engine
from lorarar.bases import SHAPES
from lorarar.benchmarks.devices.emulated import CORE
from lorarar.embedded import HYPERNET, LORAS
from lorarar.export.executorch.pipeline import export_pipeline
from lorarar.export.source import open_model
from lorarar.files import read_safetensors, write_safetensors
from lorarar.lora import Layer, Lora
from lorarar.numeric import psnr
from lorarar.runtime.native.build import build
from lorarar.runtime.pipeline import Pipeline

pytestmark = pytest.mark.devices

QEMU = ["qemu-aarch64", "-cpu", "cortex-a76", "-L"]
LIBRARIES = Path("/usr/aarch64-linux-gnu/lib")
PAIR = LORAS / "votol.safetensors", LORAS / "neon.safetensors"
PROMPT = "a votol cup on grass in neon style"
ENGINES: tuple[Engine, ...] = ("executorch", "onnxruntime")
SCHEDULER = "scheduler/scheduler_config.json"
EDM = {
    "_class_name": "EDMEulerScheduler",
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_schedule": "karras",
    "rho": 7.0,
}
SAME = 60.0  # dB; as the runner's ONNX Runtime is of another version than Python's


@dataclass(frozen=True)
class Case:
    """An exported folder, the runner for it, the Python runtime on it, and what both begin with."""

    engine: Engine
    folder: Path
    runner: list[str]
    pipeline: Pipeline
    given: Path


@pytest.fixture(scope="module")
def folders(tmp_path_factory, exported_none) -> dict[str, Path]:
    """The embedded model in float32, exported for each engine."""
    folder = tmp_path_factory.mktemp("executorch") / "exported"
    with open_model("mini", None) as model:
        export_pipeline(model, folder, "none", hypernet=load_hypernet(HYPERNET))
    return {"executorch": folder, "onnxruntime": exported_none}


@pytest.fixture(scope="module", params=ENGINES)
def case(request, folders, tmp_path_factory) -> Case:
    folder = folders[request.param]
    pipeline = Pipeline.load(folder, request.param, threads=1)
    given = tmp_path_factory.mktemp("given") / "given.safetensors"
    write_given(given, pipeline, [PROMPT])
    runner = [str(build(engine=request.param))]
    return Case(request.param, folder, runner, pipeline, given)


@pytest.fixture
def any_engine(case) -> Case:
    """One of them, for what both share: ONNX Runtime, which loads faster."""
    if case.engine == "executorch":
        pytest.skip("the sampler is the same for both engines")
    return case


def noise_of(pipeline: Pipeline) -> np.ndarray:
    side = pipeline.manifest.side
    shape = 1, pipeline.manifest.channels, side, side
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def write_given(path: Path, pipeline: Pipeline, prompts: list[str]) -> None:
    ids = [np.concatenate([each(text) for text in prompts]) for each in pipeline.tokenizers]
    tensors = {"input_ids": ids[0], "input_ids_2": ids[1], "noise": noise_of(pipeline)}
    write_safetensors(path, tensors, {}, force=True)


def run(runner: list[str], *arguments: object, code: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run([*runner, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done


def draw(case: Case, folder: Path, output: Path, *arguments: object) -> dict:
    options = ["--given", case.given, "-o", output, "--steps", 3]
    return json.loads(run(case.runner, "picture", folder, *arguments, *options).stdout)


def pixels(picture: Path | Image.Image) -> np.ndarray:
    opened = picture if isinstance(picture, Image.Image) else Image.open(picture)
    return np.asarray(opened).astype(np.float64) / 255


def assert_same_picture(case: Case, output: Path, pipeline: Pipeline, **options: object) -> None:
    wanted = pipeline.generate(PROMPT, steps=3, **options)
    assert psnr(pixels(output), pixels(wanted)) >= SAME


@pytest.fixture
def unlike_pair(case, tmp_path) -> tuple[Path, Path]:
    """Two LoRAs of unequal ranks and dtypes, with scales; each lacks layers of the other."""
    content, style = (load_lora(path).layers for path in PAIR)
    names = sorted(content)
    one = {name: content[name]._replace(scale=0.5) for name in names[2:]}
    other = {name: half_rank(style[name]) for name in names[:-2]}
    paths = tmp_path / "content.safetensors", tmp_path / "style.safetensors"
    for path, layers in zip(paths, (one, other), strict=True):
        save_lora(Lora(layers), path)
    return paths


def half_rank(layer: Layer) -> Layer:
    rank = layer.rank // 2
    up, down = np.asarray(layer.up)[:, :rank], np.asarray(layer.down)[:rank]
    return Layer(up.astype(ml_dtypes.bfloat16), down.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("pair", ["none", "embedded", "unlike"])
def test_pictures_are_the_python_runtimes(case, pair, unlike_pair, tmp_path):
    files = {"none": (), "embedded": PAIR, "unlike": unlike_pair}[pair]
    case.pipeline.load_lora(None)
    if files:
        case.pipeline.set_pair(*files)
    output, latents = tmp_path / "picture.png", tmp_path / "latents.safetensors"
    said = draw(case, case.folder, output, *files, "--latents", latents)
    assert said["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert_same_picture(case, output, case.pipeline)
    *_, wanted = case.pipeline.steps(PROMPT, steps=3)
    found = read_safetensors(latents)[0]["latents"]
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_pairs_change_the_picture(case, tmp_path):
    draw(case, case.folder, tmp_path / "without.png")
    draw(case, case.folder, tmp_path / "with.png", *PAIR)
    assert psnr(pixels(tmp_path / "with.png"), pixels(tmp_path / "without.png")) < 30


def test_negative_prompts_and_guidance_are_heeded(case, tmp_path):
    case.pipeline.load_lora(None)
    given = tmp_path / "given.safetensors"
    write_given(given, case.pipeline, ["a blue house", PROMPT])
    two = replace(case, given=given)
    draw(two, case.folder, tmp_path / "negative.png")
    assert_same_picture(
        two, tmp_path / "negative.png", case.pipeline, negative_prompt="a blue house"
    )
    draw(two, case.folder, tmp_path / "plain.png", "--guidance", 1)
    assert_same_picture(two, tmp_path / "plain.png", case.pipeline, guidance=1.0)


def with_scheduler(folder: Path, copy: Path, **changes: object) -> Path:
    """A copy whose scheduler is configured otherwise, and listed so."""
    shutil.copytree(folder, copy)
    config = json.loads((copy / SCHEDULER).read_bytes()) | changes
    (copy / SCHEDULER).write_text(json.dumps(config))
    list_again(copy, SCHEDULER)
    return copy


def list_again(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    listed = [len(content), hashlib.sha256(content).hexdigest()]
    change_manifest(folder, files=lambda files: files | {name: listed})


def change_manifest(folder: Path, **changes: object) -> None:
    path = folder / "lorarar.json"
    fields = json.loads(path.read_bytes())
    for name, change in changes.items():
        fields[name] = change(fields[name]) if callable(change) else change
    path.write_text(json.dumps(fields))


@pytest.mark.parametrize(
    "changes",
    [
        {"timestep_spacing": "leading", "steps_offset": 1},
        {"timestep_spacing": "linspace", "beta_schedule": "linear"},
        {"prediction_type": "v_prediction"},
        {"use_karras_sigmas": True, "lower_order_final": False, "steps_offset": None},
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
        EDM | {"sigma_data": 0.5},
        EDM
        | {
            "prediction_type": "v_prediction",
            "sigma_data": 1.0,
            "sigma_schedule": "exponential",
        },
    ],
)
def test_every_schedule_is_the_python_runtimes(any_engine, changes, tmp_path):
    folder = with_scheduler(any_engine.folder, tmp_path / "exported", **changes)
    draw(any_engine, folder, tmp_path / "picture.png")
    pipeline = Pipeline.load(folder, any_engine.engine, threads=1)
    assert_same_picture(any_engine, tmp_path / "picture.png", pipeline)


def test_a_step_is_measured_in_named_rows(case):
    options = ["--given", case.given, "--rounds", 2, "--threads", 2]
    said = json.loads(run(case.runner, "step", case.folder, *PAIR, *options).stdout)
    names = [row["name"] for row in said["rows"]]
    assert names == ["text encoders", "step", "step with pair", "swap", "vae"]
    assert said["engine"].startswith(case.engine) and said["threads"] == 2
    assert all(row["rounds"] == 2 and row["min_ms"] > 0 for row in said["rows"])


def test_aarch64_draws_the_same_picture(case, tmp_path):
    program = build(target="aarch64", engine=case.engine)
    root = tmp_path / "root"  # with a processor's description, as ONNX Runtime fails with x86's
    (root / "proc").mkdir(parents=True)
    (root / "proc" / "cpuinfo").write_text(CORE.format(0))
    (root / "lib").symlink_to(LIBRARIES)
    case.pipeline.set_pair(*PAIR)
    options = ["--given", case.given, "-o", tmp_path / "picture.png", "--steps", 1]
    run([*QEMU, str(root), str(program)], "picture", case.folder, *PAIR, *options)
    wanted = case.pipeline.generate(PROMPT, steps=1)
    assert psnr(pixels(tmp_path / "picture.png"), pixels(wanted)) >= 40


@pytest.fixture
def copied(case, tmp_path) -> Path:
    return Path(shutil.copytree(case.folder, tmp_path / "exported"))


def refused(case: Case, folder: Path, tmp_path: Path, *arguments: object) -> str:
    given = () if "--given" in arguments else ("--given", case.given)
    output = tmp_path / "refused.png"
    done = run(case.runner, "picture", folder, *arguments, *given, "-o", output, code=2)
    assert not done.stdout and not output.exists() and done.stderr.startswith("error: ")
    [line] = done.stderr.splitlines()
    return line


def test_folders_of_the_other_engine_are_refused_by_name(case, folders, tmp_path):
    [other] = set(ENGINES) - {case.engine}
    line = refused(case, folders[other], tmp_path)
    assert f"exported for {other.removesuffix('runtime')}" in line and case.engine in line


def test_damage_of_any_file_is_found(case, copied, tmp_path):
    file = copied / case.pipeline.manifest.parts["unet"][-1].file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert f"{file}: its SHA-256" in refused(case, copied, tmp_path)
    file.write_bytes(content[:-1])
    assert f"{file}: its size" in refused(case, copied, tmp_path)
    file.unlink()
    assert f"{file}: does not exist" in refused(case, copied, tmp_path)
    (copied / "lorarar.json").unlink()
    assert "lorarar.json: does not exist" in refused(case, copied, tmp_path)


def test_engines_refuse_files_that_are_listed_so_but_no_programs(case, copied, tmp_path):
    name = case.pipeline.manifest.parts["unet"][-1].file
    (copied / name).write_bytes(b"no program" * 100)
    list_again(copied, name)
    assert f"{copied / name}: not a" in refused(case, copied, tmp_path)


def stage_outside(parts: dict) -> dict:
    parts["unet"][0]["file"] = "../outside"
    return parts


def distilled(parts: dict) -> dict:
    parts["unet"][0]["inputs"]["timestep_cond"] = ["float32", [1, 256]]
    return parts


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "lorarar.pipeline.9"}, '"lorarar.pipeline.9", but this version reads'),
        ({"files": lambda files: files | {"../outside": [0, ""]}}, "is outside the folder"),
        ({"files": lambda files: files | {"/etc/passwd": [0, ""]}}, "is outside the folder"),
        ({"parts": stage_outside}, "is outside the folder"),
        ({"parts": distilled}, "was distilled with its guidance (it takes 'timestep_cond')"),
        ({"merger": "unet/../../outside"}, "is outside the folder"),
        ({"parts": lambda parts: {}}, "has no part 'unet'"),
        ({"parts": []}, "has no part 'unet'"),
        ({"rank": "many"}, "damaged"),
        ({"slot_dtype": "float8"}, "dtype 'float8' is unknown"),
        ({"files": {"lorarar.json": "?"}}, "damaged"),
        ({"penultimate": {}}, "penultimate"),
    ],
)
def test_bad_manifests_are_refused(case, copied, changes, said, tmp_path):
    change_manifest(copied, **changes)
    assert said in refused(case, copied, tmp_path)


def test_manifests_that_are_no_json_are_refused(case, copied, tmp_path):
    for content in (b"", b"[]", b"{", b'{"format": 1, "format": 2}', b"[" * 5000):
        (copied / "lorarar.json").write_bytes(content)
        assert "lorarar.json" in refused(case, copied, tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"algorithm_type": "sde-dpmsolver++"}, 'algorithm_type "sde-dpmsolver++" is not'),
        ({"thresholding": True, "solver_order": 3}, "solver_order 3, thresholding true is not"),
        ({"of_next_year": 1}, "of_next_year 1 is not supported"),
        ({"sigma_max": 10.0}, "sigma_max 10.0 is not supported"),
        ({"steps_offset": 1000}, "steps_offset 1000"),
        (EDM | {"sigma_data": 0.5, "rho": 0}, "sigma_data 0.5, rho 0"),
        ({"_class_name": "LCMScheduler"}, "LCMScheduler is no sampler of this runner; give --sam"),
        ({"beta_schedule": "cosine"}, 'beta_schedule "cosine" is not supported'),
        ({"timestep_spacing": 7}, "timestep_spacing 7 is not supported"),
        ({"beta_end": "much"}, "no configuration of a scheduler"),
        ({"num_train_timesteps": 1}, "in 1 steps"),
    ],
)
def test_unknown_schedules_are_refused_by_name(any_engine, changes, said, tmp_path):
    folder = with_scheduler(any_engine.folder, tmp_path / "exported", **changes)
    line = refused(any_engine, folder, tmp_path)
    assert SCHEDULER in line and said in line


def test_euler_draws_for_other_samplers_if_it_is_told_to(any_engine, tmp_path):
    changes = {"_class_name": "DPMSolverMultistepScheduler"}
    folder = with_scheduler(any_engine.folder, tmp_path / "exported", **changes)
    draw(any_engine, folder, tmp_path / "picture.png", "--sampler", "euler")
    pipeline = Pipeline.load(folder, any_engine.engine, threads=1)
    assert_same_picture(any_engine, tmp_path / "picture.png", pipeline, sampler="euler")
    assert "--sampler lcm: is not in this runner" in refused(
        any_engine, folder, tmp_path, "--sampler", "lcm"
    )


def test_loras_that_do_not_fit_are_refused(case, tmp_path):
    name = next(name for name in SHAPES["sdxl"] if "attn" in name)
    first, layer = next(iter(load_lora(PAIR[0]).layers.items()))
    out, width = SHAPES["sdxl"][name]
    zeros = np.zeros((out, 1), np.float32), np.zeros((1, width), np.float32)
    odd = {
        "has no slot": {"unet.elsewhere.attn1.to_q": layer},
        "another base model": {first: Layer(*zeros)},
        "NaN or infinite": {first: layer._replace(up=np.full_like(np.asarray(layer.up), np.nan))},
    }
    path = tmp_path / "odd.safetensors"
    for said, layers in odd.items():
        factors = {
            f"{layer_name}.lora_{part}.weight": np.asarray(factor)
            for layer_name, each in layers.items()
            for part, factor in (("A", each.down), ("B", each.up))
        }
        write_safetensors(path, factors, {}, force=True)
        line = refused(case, case.folder, tmp_path, path, path)
        assert str(path) in line and said in line
    assert "a lone LoRA" in refused(case, case.folder, tmp_path, PAIR[0])


def test_given_tensors_that_do_not_fit_are_refused(case, tmp_path):
    tensors, _ = read_safetensors(case.given)
    ids = tensors["input_ids"]
    path = tmp_path / "given.safetensors"
    for changes, said in (
        ({"noise": tensors["noise"].astype(np.float16)}, "tensor 'noise' is"),
        ({"noise": tensors["noise"][:, :3]}, "tensor 'noise' is"),
        ({"noise": tensors["noise"][:, :, :, :6]}, "tensor 'noise' is"),
        ({"input_ids": ids[:, :5]}, "tensor 'input_ids' is"),
        ({"input_ids_2": ids.repeat(2, 0)}, "'input_ids_2' has 2 rows"),
        ({"input_ids": ids + 10**6}, "text_encoder"),
    ):
        write_safetensors(path, tensors | changes, {}, force=True)
        assert said in refused(case, case.folder, tmp_path, "--given", path)
    assert "no tensor" in refused(case, case.folder, tmp_path, "--given", PAIR[0])
    for option, value in (
        ("--steps", "0"),
        ("--steps", "1.5"),
        ("--guidance", "much"),
        ("--guidance", "nan"),
    ):
        assert f"{option} {value}" in refused(case, case.folder, tmp_path, option, value)


def test_pixels_that_are_not_finite_are_refused(case, tmp_path):
    line = refused(case, case.folder, tmp_path, "--guidance", "3e38")
    assert str(case.folder) in line and "not finite" in line
