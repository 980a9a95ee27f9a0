"""An exported pipeline, run: prompt in, picture out, as SDXL's paper describes it (2307.01952)."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image

from lorarar.artefacts.formats import FORMATS
from lorarar.artefacts.pipeline import PipelineManifest, Stage, check_files, read_manifest
from lorarar.errors import LorararError
from lorarar.lora import Lora, load_lora
from lorarar.merge import weighted_sum
from lorarar.methods import merge
from lorarar.parallel import cores
from lorarar.runtime.backends import RunStage, Tensors, load_backend
from lorarar.runtime.cache import Kept, Stamp, kept_open, stamp
from lorarar.runtime.merger import Merger
from lorarar.runtime.samplers import SCHEDULERS, Diffusion
from lorarar.runtime.slots import Factors, pair_factors, slot_factors
from lorarar.runtime.tokenizer import ClipTokenizer, load_tokenizer

OnStep = Callable[[int, int], bool | None]  # step done, of how many; False cancels
ENCODERS = ("text_encoder", "text_encoder_2")


class Cancelled(Exception):
    """A step callback gave False; the pipeline is as usable as before."""


@dataclass
class Pipeline:
    """An open pipeline. Threads may share it; their pictures are drawn one after another.

    parts: each part's stages, ready to run; merger: the exported hypernetwork, if the folder has
    one; opened: gives the LoRA of a file's `stamp`, mapped; factors: of the LoRA that draws, empty
    for none; kept: of those used last.
    """

    folder: Path
    manifest: PipelineManifest
    parts: dict[str, list[tuple[Stage, RunStage]]]
    tokenizers: list[ClipTokenizer]
    diffusion: Diffusion
    merger: Merger | None
    opened: Callable[[Path, int, int], Lora]
    workers: int
    factors: Factors = field(default_factory=dict)
    kept: Kept = field(default_factory=Kept)
    lock: Lock = field(default_factory=Lock)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        backend: str = "onnxruntime",
        threads: int | None = None,
        check_hashes: bool = True,
    ) -> "Pipeline":
        """Open what `lorarar.export` wrote; weights are mapped where the engine maps them.

        threads: cores to use, all if None. check_hashes: read every file once to find damage.

        Raises LorararError if the folder is none, of a newer format, of another engine, damaged or
        incomplete, or if the engine is not installed or runs out of memory.
        """
        folder, threads = Path(folder), threads or cores()
        manifest = read_manifest(folder)
        engine = load_backend(backend)
        fitting = FORMATS[manifest.engine].engine
        if fitting != backend:
            raise LorararError(f"{folder}: was exported for {fitting}, not for {backend}")
        check_files(folder, manifest, check_hashes)
        try:
            parts = {
                name: [
                    (stage, engine.open_stage(folder / stage.file, stage, threads))
                    for stage in stages
                ]
                for name, stages in manifest.parts.items()
                if name != "vae_encoder"
            }
        except (MemoryError, OSError) as error:
            raise LorararError(
                f"{folder}: unreadable, or too large for the memory here ({error!r}); "
                "export it in fewer bits"
            ) from error
        config = folder / "scheduler" / "scheduler_config.json"
        merger = None
        if manifest.merger:
            path = folder / manifest.merger
            merger = Merger(*engine.load(path, threads), str(path))
        return cls(
            folder,
            manifest,
            parts,
            [load_tokenizer(folder / name) for name in ("tokenizer", "tokenizer_2")],
            Diffusion.read(json.loads(config.read_bytes()), config),
            merger,
            kept_open(manifest, str(folder)),
            threads,
        )

    def load_lora(self, lora: Lora | str | Path | None) -> None:
        """Draw with this LoRA from now on, or with none.

        Raises LorararError if it is damaged or does not fit; then the one before stays.
        """
        with self.lock:
            if lora is None:
                self.factors = {}
            elif isinstance(lora, Lora):
                self.factors = self._factors(lora)
            else:
                path = Path(lora)
                self.factors = self.kept.recall(stamp(path), partial(self._read_factors, path))

    def set_pair(
        self,
        content: str | Path,
        style: str | Path,
        content_scale: float = 1.0,
        style_scale: float = 1.0,
        method: str = "lorarar",
    ) -> None:
        """Merge two LoRAs and draw with both.

        method: "lorarar", by the exported hypernetwork and from plain or prepared LoRAs, or
        another of `lorarar.methods`.

        Raises LorararError if they do not fit, or if the folder has no hypernetwork.
        """
        asked = stamp(Path(content)), stamp(Path(style)), content_scale, style_scale, method
        with self.lock:
            self.factors = self.kept.recall(asked, partial(self._merge, *asked))

    def forget(self) -> None:
        """Close the LoRAs that are kept for going back to them; the one that draws stays."""
        with self.lock:
            self.kept = Kept()
            self.opened = kept_open(self.manifest, str(self.folder))

    def generate(
        self,
        prompt: str,
        negative_prompt: str | None = None,
        steps: int = 20,
        guidance: float = 5.0,
        seed: int = 0,
        size: tuple[int, int] | None = None,
        scheduler: str = "euler",
        on_step: OnStep | None = None,
    ) -> Image.Image:
        """Draw one picture. guidance: 1 or less for none; size: (width, height) in pixels.

        The same seed gives the same noise on every engine. negative_prompt: None means zeros where
        the model was trained so, "" the empty prompt.

        Raises LorararError for sizes or steps that cannot be, Cancelled if `on_step` gives False.
        """
        if scheduler not in SCHEDULERS:
            known = ", ".join(SCHEDULERS)
            raise LorararError(f"scheduler '{scheduler}' is unknown; use one of {known}")
        width, height = self._cells(size)
        with self.lock:
            generator = np.random.default_rng(seed)
            shape = (1, self.manifest.channels, height, width)
            noise = generator.standard_normal(shape, np.float32)
            predict = self._predictor(prompt, negative_prompt, guidance, (width, height))
            sampled = SCHEDULERS[scheduler](
                predict,
                noise,
                self.diffusion,
                steps,
                partial(generator.standard_normal, dtype=np.float32),
            )
            for step, latents in enumerate(sampled, 1):  # noqa: B007
                if on_step and on_step(step, steps) is False:
                    raise Cancelled
            return self._decode(latents)

    def _cells(self, size: tuple[int, int] | None) -> tuple[int, int]:
        """Pixels to latents' cells; the UNet halves them twice."""
        made = self.manifest.side * self.manifest.pixels
        width, height = size or (made, made)
        unit = 4 * self.manifest.pixels
        fixed = None not in self.manifest.parts["unet"][0].inputs["sample"][1]
        if width % unit or height % unit or min(width, height) < unit:
            raise LorararError(f"size {width}x{height}: must be multiples of {unit} pixels")
        if fixed and (width, height) != (made, made):
            raise LorararError(f"{self.folder}: draws {made}x{made} only; export it with --side")
        return width // self.manifest.pixels, height // self.manifest.pixels

    def _predictor(
        self, prompt: str, negative: str | None, guidance: float, cells: tuple[int, int]
    ) -> Callable[[np.ndarray, float], np.ndarray]:
        """What the UNet answers at a time, guided: unguided + guidance * (asked - unguided)."""
        hidden, pooled = self._encode(prompt)
        width, height = (side * self.manifest.pixels for side in cells)
        conditions = [(hidden, pooled)]
        if guidance > 1:
            if negative is None and self.manifest.zeros_for_empty:
                unguided = np.zeros_like(hidden), np.zeros_like(pooled)
            else:
                unguided = self._encode(negative or "")
            conditions.insert(0, unguided)
        times = np.array([[height, width, 0, 0, height, width]], np.float32)
        together = self.manifest.parts["unet"][0].inputs["sample"][1][0] is None
        if together:
            conditions = [tuple(map(np.concatenate, zip(*conditions, strict=True)))]  # type: ignore
        feeds = [
            {
                "encoder_hidden_states": hidden,
                "text_embeds": pooled,
                "time_ids": times.repeat(len(hidden), 0),
            }
            for hidden, pooled in conditions
        ]

        def predict(sample: np.ndarray, time: float) -> np.ndarray:
            at = {"timestep": np.array([time], np.float32)}
            answers = [
                self._run("unet", at | feed | {"sample": sample.repeat(len(feed["time_ids"]), 0)})
                for feed in feeds
            ]
            answer = np.concatenate([each["out_sample"] for each in answers])
            return answer[:1] + guidance * (answer[1:] - answer[:1]) if len(answer) == 2 else answer

        return predict

    def _encode(self, prompt: str) -> tuple[np.ndarray, np.ndarray]:
        """Both encoders' last hidden states but one, side by side, and the second's pooled."""
        states = []
        for part, tokenizer in zip(ENCODERS, self.tokenizers, strict=True):
            answers = self._run(part, {"input_ids": tokenizer(prompt)})
            states.append(answers[self.manifest.penultimate[part]])
        return np.concatenate(states, -1), answers["text_embeds"]

    def _decode(self, latents: np.ndarray) -> Image.Image:
        sample = self._run("vae_decoder", {"latent_sample": latents / self.manifest.scaling})[
            "sample"
        ]
        pixels = (sample[0].transpose(1, 2, 0) / 2 + 0.5).clip(0, 1)
        return Image.fromarray((pixels * 255).round().astype(np.uint8))

    def _run(self, part: str, tensors: Tensors) -> Tensors:
        for stage, run in self.parts[part]:
            feeds = {name: tensors[name] for name in stage.inputs}
            if part == "unet":
                feeds |= self._stage_factors(stage)
            tensors = tensors | run(feeds)
        return tensors

    def _stage_factors(self, stage: Stage) -> Tensors:
        return {name: self.factors[name] for name in stage.lora_inputs if name in self.factors}

    def _merge(
        self, one: Stamp, other: Stamp, content_scale: float, style_scale: float, method: str
    ) -> Factors:
        content, style = self.opened(*one), self.opened(*other)
        if method != "lorarar":
            scales = {"content_scale": content_scale, "style_scale": style_scale}
            return self._factors(merge(content, style, method, **scales))
        if self.merger is None:
            raise LorararError(
                f"{self.folder}: has no hypernetwork; export it with --hypernet, or use "
                "another method"
            )
        m = self.merger.coefficients(content, style)
        if not self.manifest.pairs:
            return self._factors(weighted_sum(content, style, m, content_scale, style_scale))
        pair, both = (content, style), (content_scale, style_scale)
        return pair_factors(pair, m, both, self.manifest, str(self.folder))

    def _read_factors(self, path: Path) -> Factors:
        return self._factors(load_lora(path))

    def _factors(self, lora: Lora) -> Factors:
        return slot_factors(lora, self.manifest, str(self.folder), self.workers)
