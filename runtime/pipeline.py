"""An exported pipeline, run: prompt in, picture out, as SDXL's paper describes it (2307.01952)."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from math import isfinite
from pathlib import Path
from threading import RLock
from typing import TypedDict, Unpack, cast

import numpy as np
from PIL import Image

from lorarar.artefacts.formats import Engine
from lorarar.artefacts.pipeline import PipelineManifest, check_files, read_manifest
from lorarar.artefacts.scheduler import FILE as SCHEDULER
from lorarar.errors import LorararError
from lorarar.lora import Lora
from lorarar.methods import DeviceMethod, check_for_devices, find_method
from lorarar.methods.factored import FactoredName
from lorarar.methods.scheduled import SCHEDULED, Schedule
from lorarar.parallel import cores
from lorarar.runtime.backends import Tensors, load_pipeline_backend
from lorarar.runtime.cache import FactorCache, PairKey, file_version
from lorarar.runtime.conditioning import at_step, concatenate, guided, unet_inputs
from lorarar.runtime.limits import checked_size, guidance_inputs, takes_any_batch
from lorarar.runtime.merger import Merger
from lorarar.runtime.noise_schedule import NoiseSchedule
from lorarar.runtime.parts import OpenPart, check_engine, open_parts, run_part
from lorarar.runtime.prompts import PromptReader
from lorarar.runtime.samplers import SAMPLERS, Sampler, settled_sampler
from lorarar.runtime.slots import Factors, check_lora, factors_at
from lorarar.runtime.tokenizer import ClipTokenizer, load_tokenizer

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
        check_engine(folder, manifest, backend)
        check_files(folder, manifest, check_hashes)
        parts = open_parts(folder, manifest, engine, threads)
        merger = None
        if manifest.merger:
            merger = Merger.open(folder / manifest.merger, engine, threads)
        return cls(
            folder,
            manifest,
            parts,
            tokenizers=[load_tokenizer(folder / name) for name in ("tokenizer", "tokenizer_2")],
            schedule=NoiseSchedule.read(folder / SCHEDULER),
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
        width, height = checked_size(self.manifest, size, self.folder)
        generator = np.random.default_rng(seed)

        def draw_noise(shape: tuple[int, ...]) -> np.ndarray:
            return generator.standard_normal(shape, np.float32)

        rows, columns = height // self.manifest.pixels, width // self.manifest.pixels
        noise = draw_noise((1, self.manifest.channels, rows, columns))
        embedding = guidance_inputs(self.manifest, guidance, negative_prompt, self.folder)
        texts = self._prompts.read(prompt, negative_prompt, 1.0 if embedding else guidance)
        if takes_any_batch(self.manifest):
            texts = [concatenate(texts)]
        constant = [unet_inputs(text, (width, height)) | embedding for text in texts]
        factors, weights = self.factors, self.weights
        number = count()  # of the step: samplers call the model once in each

        def model(sample: np.ndarray, time: float) -> np.ndarray:
            done = next(number) / steps
            now = factors_at(done, weights, factors, self.manifest) if weights else factors
            inputs = [at_step(each, sample, time) for each in constant]
            outputs = [self._run("unet", each, now)["out_sample"] for each in inputs]
            return guided(np.concatenate(outputs), guidance)

        return take_steps(model, noise, self.schedule, steps, draw_noise=draw_noise)

    def cut(self, prompt: str) -> str:
        """Return the words at a prompt's end that are left out, as the UNet takes no more tokens.

        >>> Pipeline.load(exported, threads=1).cut("a votol cup")
        ''
        """
        return self._prompts.cut(prompt)

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

    @property
    def _prompts(self) -> PromptReader:
        return PromptReader(self.manifest, self.tokenizers, self._run)

    def _run(self, part: str, tensors: Tensors, factors: Factors | None = None) -> Tensors:
        with self.lock:
            return run_part(self.parts[part], tensors, factors or {})
