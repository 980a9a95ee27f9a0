"""An exported pipeline, run: prompt in, picture out, as SDXL's paper describes it (2307.01952)."""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import isfinite
from pathlib import Path
from threading import RLock
from typing import TypedDict, Unpack, cast

import numpy as np
from PIL import Image

from lorarar.artefacts.formats import FORMATS, Engine
from lorarar.artefacts.pipeline import GUIDANCE_INPUT, PipelineManifest, check_files, read_manifest
from lorarar.errors import LorararError
from lorarar.lora import Lora
from lorarar.methods import DeviceMethod, check_for_devices, find_method
from lorarar.methods.factored import FactoredName
from lorarar.methods.scheduled import SCHEDULED, Schedule
from lorarar.parallel import cores
from lorarar.runtime.backends import Tensors, load_pipeline_backend
from lorarar.runtime.cache import FactorCache, PairKey, file_version
from lorarar.runtime.conditioning import (
    TextEmbedding,
    concatenate,
    embed_prompts,
    guidance_embedding,
    guided,
    unet_inputs,
    zeros_like,
)
from lorarar.runtime.merger import Merger
from lorarar.runtime.noise_schedule import NoiseSchedule
from lorarar.runtime.parts import OpenPart, open_parts, run_part
from lorarar.runtime.samplers import SAMPLERS, Sampler, settled_sampler
from lorarar.runtime.slots import Factors, check_lora, factors_at
from lorarar.runtime.tokenizer import ClipTokenizer, load_tokenizer

TEXT_INPUT = "encoder_hidden_states"
ENCODERS = ("text_encoder", "text_encoder_2")
APART: tuple[DeviceMethod, ...] = ("lorarar", "direct")  # what leaves both LoRAs' factors apart


class DrawingKeywords(TypedDict, total=False):
    """Keywords of `Pipeline.steps`, and so of `Pipeline.generate`."""

    steps: int
    guidance: float
    seed: int
    size: tuple[int, int] | None
    sampler: Sampler | None


@dataclass
class Pipeline:
    """An open pipeline.

    Threads may share it: `generate` draws their pictures one after another. factors: of the LoRAs
    that draw, empty for none; weights: what a pair's are multiplied by at each step, if they
    change; cache: of those used last; lock: held while an engine runs.
    """

    folder: Path
    manifest: PipelineManifest
    parts: dict[str, OpenPart]
    tokenizers: list[ClipTokenizer]
    schedule: NoiseSchedule
    cache: FactorCache
    factors: Factors = field(default_factory=dict)
    weights: Schedule | None = None
    lock: RLock = field(default_factory=RLock)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        backend: Engine = "onnxruntime",
        threads: int | None = None,
        check_hashes: bool = True,
    ) -> "Pipeline":
        """Open what `lorarar export` wrote; weights are mapped where the engine maps them.

        threads: cores to use, all if None. check_hashes: read every file once to find damage.

        Raises LorararError if the folder is none, of a newer format, of another engine, damaged or
        incomplete, or if the engine is not installed or runs out of memory.

        >>> Pipeline.load(exported, threads=1).manifest.base
        'mini'
        """
        folder, threads = Path(folder), threads or cores()
        manifest = read_manifest(folder)
        engine = load_pipeline_backend(backend)
        fitting = FORMATS[manifest.engine].engines
        if backend not in fitting:
            said = f"was exported for {' or '.join(fitting)}, not for {backend}"
            raise LorararError(f"{folder}: {said}")
        check_files(folder, manifest, check_hashes)
        parts = open_parts(folder, manifest, engine, threads)
        config = folder / "scheduler" / "scheduler_config.json"
        merger = None
        if manifest.merger:
            merger = Merger.open(folder / manifest.merger, engine, threads)
        return cls(
            folder,
            manifest,
            parts,
            tokenizers=[load_tokenizer(folder / name) for name in ("tokenizer", "tokenizer_2")],
            schedule=NoiseSchedule.from_config(json.loads(config.read_bytes()), config),
            cache=FactorCache(folder, manifest, merger, threads),
        )

    def load_lora(self, lora: Lora | str | Path | None) -> None:
        """Draw with this LoRA from now on, or with none.

        Raises LorararError if it is damaged or does not fit; then the one before stays.

        >>> pipeline = Pipeline.load(exported, threads=1)
        >>> pipeline.load_lora(content)
        >>> pipeline.load_lora(None)
        """
        with self.lock:
            if lora is None:
                self.factors = {}
            elif isinstance(lora, Lora):
                self.factors = self.cache.make(lora)
            else:
                self.factors = self.cache.get(Path(lora))
            self.weights = None

    def set_pair(
        self,
        content: str | Path,
        style: str | Path,
        content_scale: float = 1.0,
        style_scale: float = 1.0,
        *,
        method: DeviceMethod = "lorarar",
        schedule: Schedule | None = None,
    ) -> None:
        """Merge two LoRAs and draw with both.

        method: "lorarar", by the exported hypernetwork and from plain or prepared LoRAs, or
        another of `lorarar.methods.factored` or `lorarar.methods.scheduled`. schedule: what each
        layer's two LoRAs are multiplied by besides, anew at each step; see there.

        Raises LorararError if they do not fit, if the folder has no hypernetwork, or if the method
        is not for devices or has no use for a schedule; then the LoRAs before stay.

        >>> pipeline = Pipeline.load(exported, threads=1)
        >>> pipeline.set_pair(content, style, style_scale=0.8)
        >>> pipeline.set_pair(content, style, schedule=lambda layer, done: (1.0, done))
        """
        check_for_devices(method)
        if schedule is not None and method not in APART:
            raise LorararError(
                f"method '{method}' takes no schedule; give one with {' or '.join(APART)}"
            )
        files = file_version(Path(content)), file_version(Path(style))
        with self.lock:
            if method in SCHEDULED:
                pair = PairKey(*files, content_scale, style_scale, "direct")
                schedule = self.cache.get_schedule(pair, method)
            else:
                named = cast(FactoredName, method)
                pair = PairKey(*files, content_scale, style_scale, named)
            get = self.cache.get_pair if schedule is None else self.cache.get_apart
            self.factors, self.weights = get(pair), schedule

    def check_lora(self, path: str | Path) -> list[str]:
        """Say what of a LoRA's file takes no part here, a line each; its header is read only.

        Raises LorararError if it is no LoRA or does not fit.

        >>> Pipeline.load(exported, threads=1).check_lora(content)
        []
        """
        return check_lora(Path(path), self.manifest, str(self.folder))

    def merge(
        self,
        content: str | Path,
        style: str | Path,
        content_scale: float = 1.0,
        style_scale: float = 1.0,
        *,
        method: DeviceMethod = "lorarar",
    ) -> Lora:
        """Return two LoRAs merged into one, for a file; what draws stays.

        Raises LorararError as `set_pair` does, and for methods that choose anew at each step.

        >>> merged = Pipeline.load(exported, threads=1).merge(content, style, method="direct")
        >>> {layer.rank for layer in merged.layers.values()}
        {12}
        """
        check_for_devices(method)
        find_method(method)  # refuses those that make no file
        files = file_version(Path(content)), file_version(Path(style))
        named = cast(FactoredName, method)
        with self.lock:
            return self.cache.merged(PairKey(*files, content_scale, style_scale, named))

    def forget(self) -> None:
        """Close the LoRAs that are kept for going back to them; the one that draws stays.

        >>> pipeline = Pipeline.load(exported, threads=1)
        >>> pipeline.set_pair(content, style)
        >>> pipeline.forget()
        """
        with self.lock:
            self.cache.clear()

    def generate(
        self,
        prompt: str,
        negative_prompt: str | None = None,
        **options: Unpack[DrawingKeywords],
    ) -> Image.Image:
        """Draw one picture; arguments and errors as of `steps`.

        >>> pipeline = Pipeline.load(exported, threads=1)
        >>> pipeline.set_pair(content, style)
        >>> pipeline.generate("a votol cup on grass in neon style", steps=2).size
        (64, 64)
        """
        with self.lock:
            (latents,) = deque(self.steps(prompt, negative_prompt, **options), maxlen=1)
            return self.decode(latents)

    def steps(
        self,
        prompt: str,
        negative_prompt: str | None = None,
        *,
        steps: int = 20,
        guidance: float = 5.0,
        seed: int = 0,
        size: tuple[int, int] | None = None,
        sampler: Sampler | None = None,
    ) -> Iterator[np.ndarray]:
        """Return an iterator that draws one picture: its latents after each step, for `decode`.

        Progress and cancelling are the caller's: to cancel, stop iterating. The LoRAs are those
        of this call, whatever is loaded between steps.

        negative_prompt: None means zeros where the model was trained so, "" the empty prompt.
        guidance: 1 or less for none. seed: gives the same noise on every engine. size: (width,
        height) in pixels. sampler: None means that of the class in the model's
        scheduler_config.json, if it is one of `lorarar.runtime.samplers`. Latents are (1, channels,
        height, width) float32.

        Raises LorararError for sizes, samplers, guidance and seeds that cannot be, and in the first
        step for steps.

        >>> pipeline = Pipeline.load(exported, threads=1)
        >>> for number, latents in enumerate(pipeline.steps("a red cup", steps=3), 1):
        ...     print(number, latents.shape)
        1 (1, 8, 16, 16)
        2 (1, 8, 16, 16)
        3 (1, 8, 16, 16)
        >>> pipeline.decode(latents).size
        (64, 64)
        """
        take_steps = SAMPLERS[settled_sampler(sampler, self.schedule)]
        if not isfinite(guidance):
            raise LorararError(f"guidance {guidance}: must be a finite number, such as 5")
        if seed < 0:
            raise LorararError(f"seed {seed}: must be 0 or more")
        width, height = self._checked_size(size)
        generator = np.random.default_rng(seed)

        def draw_noise(shape: tuple[int, ...]) -> np.ndarray:
            return generator.standard_normal(shape, np.float32)

        rows, columns = height // self.manifest.pixels, width // self.manifest.pixels
        noise = draw_noise((1, self.manifest.channels, rows, columns))
        embedding = self._guidance_embedding(guidance, negative_prompt)
        texts = self._texts(prompt, negative_prompt, 1.0 if embedding else guidance)
        if self._unet_inputs["sample"][1][0] is None:  # it takes any batch
            texts = [concatenate(texts)]
        constant = [unet_inputs(text, (width, height)) | embedding for text in texts]
        factors, weights = self.factors, self.weights
        number = count()  # of the step: samplers call the model once in each

        def model(sample: np.ndarray, time: float) -> np.ndarray:
            done = next(number) / steps
            now = factors_at(done, weights, factors, self.manifest) if weights else factors
            outputs = []
            for inputs in constant:
                batch = sample.repeat(len(inputs["time_ids"]), 0)
                each = inputs | {"sample": batch, "timestep": np.array([time], np.float32)}
                outputs.append(self._run("unet", each, now)["out_sample"])
            return guided(np.concatenate(outputs), guidance)

        return take_steps(model, noise, self.schedule, steps, draw_noise=draw_noise)

    def cut(self, prompt: str) -> str:
        """Return the words at a prompt's end that are left out, as the UNet takes no more tokens.

        >>> Pipeline.load(exported, threads=1).cut("a votol cup")
        ''
        """
        if self._takes_any_tokens:
            return ""
        return max((tokenizer.cut(prompt) for tokenizer in self.tokenizers), key=len)

    def decode(self, latents: np.ndarray) -> Image.Image:
        """Return the picture of latents, (1, channels, height, width) float32.

        Raises LorararError if its pixels are not finite, as they would be black.

        >>> pipeline = Pipeline.load(exported, threads=1)
        >>> pipeline.decode(np.zeros((1, 8, 16, 16), np.float32)).size
        (64, 64)
        """
        given = {"latent_sample": latents / self.manifest.scaling}
        sample = self._run("vae_decoder", given)["sample"]
        if not np.isfinite(sample).all():
            raise LorararError(
                f"{self.folder}: drew pixels that are not finite; lower guidance or LoRAs' scales"
            )
        pixels = (sample[0].transpose(1, 2, 0) / 2 + 0.5).clip(0, 1)
        return Image.fromarray((pixels * 255).round().astype(np.uint8))

    def _checked_size(self, size: tuple[int, int] | None) -> tuple[int, int]:
        """(width, height) in pixels."""
        made = self.manifest.side * self.manifest.pixels
        width, height = size or (made, made)
        unit = self.size_unit
        if width % unit or height % unit or min(width, height) < unit:
            raise LorararError(f"size {width}x{height}: must be multiples of {unit} pixels")
        if not self.draws_any_size and (width, height) != (made, made):
            raise LorararError(f"{self.folder}: draws {made}x{made} only; export it with --side")
        return width, height

    @property
    def size_unit(self) -> int:
        """What a picture's sides are multiples of, in pixels, as the UNet halves latents twice.

        >>> Pipeline.load(exported, threads=1).size_unit
        16
        """
        return 4 * self.manifest.pixels

    @property
    def draws_any_size(self) -> bool:
        """Whether it draws other sizes than its own.

        >>> Pipeline.load(exported, threads=1).draws_any_size
        True
        """
        return None in self._unet_inputs["sample"][1]

    @property
    def _unet_inputs(self) -> dict[str, tuple[str, list[int | None]]]:
        return self.manifest.parts["unet"][0].inputs

    def _guidance_embedding(self, guidance: float, negative: str | None) -> Tensors:
        """What the UNet takes in place of being guided, if it was distilled so."""
        if GUIDANCE_INPUT not in self._unet_inputs:
            return {}
        if negative:
            raise LorararError(
                f"{self.folder}: was distilled with its guidance, so it takes no negative prompt; "
                "leave it out"
            )
        *_, width = self._unet_inputs[GUIDANCE_INPUT][1]
        assert width is not None  # only the batch is dynamic
        return {GUIDANCE_INPUT: guidance_embedding(guidance, width)}

    def _texts(self, prompt: str, negative: str | None, guidance: float) -> list[TextEmbedding]:
        """What is asked for, after what guidance leads away from, if there is any."""
        without = negative is None and self.manifest.zeros_for_empty
        prompts = [prompt] if guidance <= 1 or without else [negative or "", prompt]
        texts = embed_prompts(
            prompts, self.tokenizers, self._embed_chunk, chunked=self._takes_any_tokens
        )
        return [zeros_like(texts[0]), *texts] if guidance > 1 and without else texts

    @property
    def _takes_any_tokens(self) -> bool:
        shapes = [
            stage.inputs[TEXT_INPUT][1]
            for stage in self.manifest.parts["unet"]
            if TEXT_INPUT in stage.inputs
        ]
        return all(tokens is None for _, tokens, _ in shapes)

    def _embed_chunk(self, ids: Sequence[np.ndarray]) -> TextEmbedding:
        """Both encoders' last hidden states but one, side by side, and the second's pooled."""
        states = []
        for part, each in zip(ENCODERS, ids, strict=True):
            outputs = self._run(part, {"input_ids": each})
            states.append(outputs[self.manifest.penultimate[part]])
        return TextEmbedding(np.concatenate(states, -1), outputs["text_embeds"])

    def _run(self, part: str, tensors: Tensors, factors: Factors | None = None) -> Tensors:
        with self.lock:
            return run_part(self.parts[part], tensors, factors or {})
