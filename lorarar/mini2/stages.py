"""The stages of a build up to the base model, each kept in a folder with what was measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lorarar.mini2 import gates
from lorarar.mini2.autoencoder import decode, encode, load_vae, save_vae, train_vae
from lorarar.mini2.base import Pool, load_base, save_base, train_base
from lorarar.mini2.denoising import GUIDANCE
from lorarar.mini2.judge import Album, load_judge, save_judge, train_judge
from lorarar.mini2.lanes import Lanes
from lorarar.mini2.machine import Clock
from lorarar.mini2.plan import Plan
from lorarar.mini2.samples import CHUNK, Chunk, Sketches
from lorarar.mini2.world import SEEDS

GUIDANCES = 2.0, 3.5, 5.0, 7.5


class Build:
    """The stages, each kept in `folder`, and what they measured, in `folder/gates.json`."""

    def __init__(self, folder: Path, plan: Plan, sketches: Sketches) -> None:
        self.folder, self.plan, self.sketches = folder, plan, sketches
        self.for_base = sketches.for_base
        folder.mkdir(parents=True, exist_ok=True)

    def note(self, key: str, value: Any) -> None:
        """Keep a measured value and print it."""
        path = self.folder / "gates.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | {key: value}, indent=1))
        print(key, json.dumps(value), flush=True)

    def judge(self) -> Any:
        """The judge from its file, first trained and tested on fresh drawings if there is none."""
        path, plan = self.folder / "judge.safetensors", self.plan
        if not path.exists():
            clock = Clock("judge", plan.judge_seconds)
            album = Album(
                self.sketches.for_judge, self.for_base, limit=self.sketches.for_judge.count
            )
            album.fill(wait=self.sketches.for_judge.count // 3)
            clock.say(f"{album.filled} drawings to start with")
            judge, steps = train_judge(album, plan.judge_steps, plan.judge_batch, clock)
            save_judge(judge, path)
            facts = {"steps": steps, "seconds": clock.spent, "drawings": album.filled}
            self.note("judge_training", facts)
            self.note("judge", gates.judge_on(judge, self.fresh_drawings()))
        return load_judge(path)

    def fresh_drawings(self) -> list[Chunk]:
        """What nobody has trained on: half of it as for the judge, half as for the base."""
        return [part[number] for part in self.sketches.tested for number in range(part.count)]

    def vae(self) -> Any:
        """The autoencoder from its file, first trained and judged if there is none."""
        path, plan = self.folder / "vae.safetensors", self.plan
        if not path.exists():
            clock = Clock("autoencoder", plan.vae_seconds)
            album = Album(self.for_base)
            album.fill(wait=max(1, self.for_base.count // 16))
            clock.say(f"{album.filled} drawings to start with")
            state = self.folder / "work" / "vae.pt"
            vae, steps = train_vae(album, plan.vae_steps, plan.vae_batch, clock, state=state)
            save_vae(vae, path)
            facts = {"steps": steps, "seconds": clock.spent, "drawings": album.filled}
            self.note("vae_training", facts)
            self.note("decoded", gates.judge_on(self.judge(), self.fresh_drawings(), vae))
            self.reconstructions(vae)
        return load_vae(path)

    def reconstructions(self, vae: Any) -> None:
        """Write decoded.webp: 32 fresh drawings, eight to a row, each above its decoded row."""
        pictures = torch.from_numpy(self.fresh_drawings()[0].pictures[:32])
        shown = decode(vae, encode(vae, pictures)).cpu()
        drawn = pictures.permute(0, 3, 1, 2) / 255
        rows = torch.stack([drawn.unflatten(0, (4, 8)), shown.unflatten(0, (4, 8))], 1)
        self.grid("decoded", rows.flatten(0, 2), 8)

    def base(self) -> gates.World:
        """The base, ready to draw, from its file, first trained and tested if there is none."""
        path, plan = self.folder / "base.safetensors", self.plan
        judge, vae = self.judge(), self.vae()
        if not path.exists():
            clock = Clock("base", plan.base_seconds)
            pool = Pool(self.for_base.count * CHUNK, vae)
            for number in range(max(1, self.for_base.count // 8)):
                pool.add(self.for_base[number])
            clock.say(f"{pool.filled} drawings to start with")
            model, steps = train_base(
                pool,
                self.for_base,
                plan.steps,
                plan.batch,
                clock,
                compiled=plan.compiled,
                state=self.folder / "work" / "base.pt",
            )
            save_base(model, path)
            facts = {"steps": steps, "seconds": clock.spent, "drawings": pool.filled}
            self.note("base_training", facts | {"batch": plan.batch})
            del pool
            world = self.opened(model, vae, judge)
            return self.test_base(world)
        return self.opened(load_base(path), vae, judge)

    def opened(self, model: Any, vae: Any, judge: Any) -> gates.World:
        """Freeze the base, let its attention carry LoRAs, and move all of it to the device."""
        model.requires_grad_(False)
        return gates.move(
            gates.World(model, vae, Lanes(model.unet), judge, self.plan.sampling, self.guidance())
        )

    def test_base(self, world: gates.World) -> gates.World:
        """Measure the base's gates, with the guidance that does best on other prompts."""
        tried = gates.split_lanes(gates.together_wishes(self.plan.wishes, SEEDS["gates"] + 1))
        scores = {}
        for guidance in GUIDANCES:
            pictures = gates.draw_lanes(
                world._replace(guidance=guidance), tried, None, SEEDS["drawings"]
            )
            found = gates.means(gates.rights(world, tried, pictures))
            scores[guidance] = sum(found.values()) / len(found)
        self.note("guidance", {"tried": scores, "best": max(scores, key=lambda g: scores[g])})
        world = world._replace(guidance=self.guidance())
        asked = gates.alone_wishes(self.plan.wishes)
        lanes = gates.split_lanes([wish for wishes in asked.values() for wish in wishes])
        pictures = gates.draw_lanes(world, lanes, None)
        self.note("alone", gates.means(gates.rights(world, lanes, pictures)))
        lanes = gates.split_lanes(gates.together_wishes(self.plan.wishes * 5))
        pictures = gates.draw_lanes(world, lanes, None)
        self.note("together", gates.means(gates.rights(world, lanes, pictures)))
        self.grid("base", pictures.flatten(0, 1)[:96], 12)
        return world

    def guidance(self) -> float:
        """The scale of guidance that `test_base` found best, or the default before it has run."""
        path = self.folder / "gates.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        return float(known.get("guidance", {}).get("best", GUIDANCE))

    def grid(self, name: str, pictures: torch.Tensor, columns: int) -> None:
        """Write pictures (n, 3, 128, 128) side by side."""
        images = gates.to_images(pictures)
        images = images[: len(images) // columns * columns]
        rows = [np.concatenate(images[i : i + columns], 1) for i in range(0, len(images), columns)]
        Image.fromarray(np.concatenate(rows)).save(self.folder / f"{name}.webp", quality=75)
