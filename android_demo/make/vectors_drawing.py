"""Tokens, noise and whole samplings as Python has them, for the app's tests."""

import json
import random
import shutil
import sys
import unicodedata
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np

from lorarar import LorararError
from lorarar.artefacts.scheduler import CLASSES, PredictionType, Sampler, Spacing, resolve
from lorarar.benchmarks.published import EDM_EULER as COSXL
from lorarar.embedded import EMBEDDED
from lorarar.runtime.noise_schedule import NoiseSchedule
from lorarar.runtime.samplers import SAMPLERS
from lorarar.runtime.tokenizer import load_tokenizer

from . import vectors_manifests, vectors_merges

SEEDS = (0, 1, 42, 2**31, 2**32 - 1, 2**32, 2**63 - 1)
MANY = 1_000_000
SHAPE = (1, 4, 4, 4)
STEPS = (1, 2, 7, 20)
BETAS = ("linear", "scaled_linear")
TEXTS = [
    "",
    "   ",
    "a votol cup on grass in neon style",
    "A  Red\tCUP,\nit's 42 o'clock!",
    "wow! a cup!! hi !there !",
    "don't we'll they're I've I'm he'd cat's IT'S 'S \u017f '\u017f 'LL '' 'x",
    "Ärger über Öl, façade, naïve, ß, e\u0301, İstanbul, ΟΔΟΣ",
    "ΟΔΟΣ ΟΔΟΣ. ΣΔΣ Σ Δ'Σ Δ\u00adΣ ΔΣ\u0301 ΔΣ'Δ Δ:Σ Σ\u02b0 \U0001d6ba Δ\u0345Σ",
    "a (cup:1.3) -- 3.14 #1 ... ?! ½ ² ① Ⅻ ٣ 三",
    "word " * 200,
    "x" * 500,
    "a cat 🐈 a family 👨\u200d👩\u200d👧 and 猫cat猫 豈\U0002a700\U0002ceb0",
    "zero\u200bwidth, nul\x00, next\x85line, lost\ufffd, own\ue000, half\ud800, \udfff",
    "<|endoftext|> inside <|startoftext|>A Cup<|ENDOFTEXT|>",
    "<|endoftext|<|endoftext|>> a<|startoftext|>",
    "a <s0> cup, <s1><s0><s1>, <S0> s0 votol-cup Votol-Cups a<s0>! <s0>_1",
    "ﬀ ﬁ ǅ ǆ Ǆ ẞ ỻ K Å Ω \u2160 \U00010400 \U0001e900",
    "\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000a\u3000b\x0bc\x0cd\x1ce",
    "한국어 각 \u1112\u1161\u11ab हिन्दी ไทย עברית العربية \u0e33 \u0f0b",
]


def write(folder: Path) -> None:
    """Write what `DrawingTest` and its neighbours read, below `drawing/`."""
    folder = folder / "drawing"
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokens(folder)
    _write_noise(folder)
    _write_samplings(folder)
    vectors_merges.write(folder)
    vectors_manifests.write(folder)


def _write_tokens(folder: Path) -> None:
    generator = random.Random(0)
    old = unicodedata.ucd_3_2_0  # letters that every Java knows
    known = [chr(c) for c in range(sys.maxunicode) if old.category(chr(c)) not in ("Cn", "Cs")]
    mixed = ["".join(generator.choices(known, k=12)) for _ in range(500)]
    low = ["".join(generator.choices(known[:1200], k=12)) for _ in range(500)]
    rows = []
    for name, changed in _tokenizers(folder).items():
        tokenizer = load_tokenizer(folder / name)
        for text in [*TEXTS, *mixed, *low]:
            ids = tokenizer(text)[0].tolist()
            cut = max(0, len(tokenizer.ids(text)) - (tokenizer.length - 2))
            rows.append({"folder": name, "text": text, "ids": ids, "cut": cut})
        (folder / name / "changed.json").write_text(json.dumps(changed))
    (folder / "tokens.json").write_text(json.dumps(rows))


def _tokenizers(folder: Path) -> dict[str, dict[str, Any]]:
    """The embedded one, one that pads with "!" as SDXL's second does, one whose unknown token is
    new, and one with added tokens."""
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "bang": {"pad_token": "!", "model_max_length": 77},
        "odd": {"unk_token": "cat", "model_max_length": 40},
        "added": {
            "added_tokens_decoder": {
                str(800 + number): {"content": content}
                for number, content in enumerate(
                    ("<s0>", "<s1>", "<s0><s1>", "Votol-Cup", "<s0>_1")
                )
            }
        },
    }
    for name, changed in changes.items():
        shutil.copytree(EMBEDDED / "base" / "tokenizer", folder / name, dirs_exist_ok=True)
        path = folder / name / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    return changes


def _write_noise(folder: Path) -> None:
    for seed in SEEDS:
        count = MANY if seed == 42 else 1000
        numbers = np.random.default_rng(seed).standard_normal(count, np.float32)
        numbers.tofile(folder / f"noise-{seed}.f32")
    (folder / "noise.json").write_text(json.dumps([str(seed) for seed in SEEDS]))


def stand_in(x: np.ndarray, time: float) -> np.ndarray:
    """A model whose arithmetic is the same in every language."""
    shifted = np.float32(time) * np.float32(1e-4)
    made: np.ndarray = x / (np.abs(x) + np.float32(1)) + shifted
    return made


def _write_samplings(folder: Path) -> None:
    rows = []
    grid: list[tuple[dict[str, Any], Sampler, int]] = [
        (
            {
                "beta_start": 0.00085,
                "beta_end": 0.012,
                "beta_schedule": betas,
                "num_train_timesteps": 1000,
                "timestep_spacing": spacing,
                "prediction_type": predicts,
                "steps_offset": number % 2,
                "use_karras_sigmas": number % 3 == 0,
                "rescale_betas_zero_snr": number % 5 == 0 and predicts == "v_prediction",
            },
            sampler,
            steps,
        )
        for number, (sampler, spacing, predicts, betas, steps) in enumerate(
            product(SAMPLERS, get_args(Spacing), get_args(PredictionType), BETAS, STEPS)
        )
    ]
    distilled = {"_class_name": "LCMScheduler", "original_inference_steps": 100}
    others: list[tuple[dict[str, Any], tuple[Sampler, ...]]] = [
        ({"_class_name": "EDMDPMSolverMultistepScheduler"}, ("euler", "euler-a", "dpm++2m")),
        (COSXL, ("euler", "euler-a", "dpm++2m")),
        (distilled | {"timestep_scaling": 20.0}, ("lcm",)),
    ]
    grid += [
        (resolve(config, Path("config")), sampler, steps)
        for config, samplers in others
        for sampler in samplers
        for steps in STEPS
    ]
    for number, (config, sampler, steps) in enumerate(grid):
        schedule = NoiseSchedule.from_config(config, Path("config"))
        generator = np.random.default_rng(number)

        def draw(shape: tuple[int, ...], generator: np.random.Generator = generator) -> np.ndarray:
            return generator.standard_normal(shape, np.float32)

        noise = draw(SHAPE)
        made = SAMPLERS[sampler](stand_in, noise, schedule, steps, draw_noise=draw)
        name = f"sampling-{number}.f32"
        np.stack(list(made)).tofile(folder / name)
        rows.append(
            {"sampler": sampler, "steps": steps, "seed": number, "config": config, "file": name}
        )
    owners = [
        {"class": name, "sampler": known.sampler, "config": resolve({"_class_name": name}, folder)}
        for name, known in CLASSES.items()
    ]
    (folder / "samplings.json").write_text(
        json.dumps({"good": rows, "refused": _refused(), "owners": owners})
    )


def _refused() -> list[dict[str, Any]]:
    """Configurations and steps that cannot be, each with what Python says."""
    good: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "timestep_spacing": "leading",
    }
    cases: list[tuple[dict[str, Any], Sampler, int]] = [
        ({"beta_start": 0.5}, "euler", 2),
        ({"beta_schedule": "squaredcos_cap_v2"}, "euler", 2),
        ({"prediction_type": "sample"}, "euler", 2),
        ({"use_beta_sigmas": True, "timestep_spacing": "odd"}, "euler", 2),
        ({"algorithm_type": "sde-dpmsolver++"}, "dpm++2m", 2),
        ({"thresholding": True, "clip_sample": True, "solver_order": 3}, "dpm++2m", 2),
        ({"of_next_year": "more"}, "euler", 2),
        ({"of_next_year": False, "sample_max_value": 3, "steps_offset": None}, "euler", 2),
        ({"sigma_max": 10.0}, "euler", 2),
        ({"steps_offset": 1000}, "euler", 2),
        (resolve({"_class_name": "EDMEulerScheduler"}, Path("config")), "lcm", 2),
        (resolve({"_class_name": "EDMEulerScheduler"}, Path("config")), "euler", 0),
        ({"trained_betas": None, "final_sigmas_type": "sigma_min"}, "euler", 2),
        ({"use_lu_lambdas": None}, "euler", 0),
        ({}, "euler", 1000),
        ({}, "dpm++2m", -1),
        ({}, "lcm", 51),
        ({"num_train_timesteps": 20}, "lcm", 21),
    ]
    absent = [{key: value for key, value in good.items() if key != name} for name in good]
    configs = [(good | changes, sampler, steps) for changes, sampler, steps in cases]
    configs += [(config, "euler", 2) for config in absent]
    rows = []
    for config, sampler, steps in configs:
        try:
            schedule = NoiseSchedule.from_config(config, Path("config"))
            noise = np.zeros(SHAPE, np.float32)
            next(SAMPLERS[sampler](stand_in, noise, schedule, steps, draw_noise=np.zeros))
            said = None
        except LorararError as error:
            said = str(error)
        rows.append({"config": config, "sampler": sampler, "steps": steps, "message": said})
    return rows
