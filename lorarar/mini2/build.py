"""Make the second small world's models from nothing.

python -m lorarar.mini2.build -o FOLDER

Each stage that is finished is kept, and a later call goes on after it. See LOG.md for how long each
takes on which machine.
"""

import json
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image

from lorarar.mini2 import gates
from lorarar.mini2.autoencoder import decode, encode, load_vae, save_vae, train_vae
from lorarar.mini2.base import Pool, load_base, save_base, train_base
from lorarar.mini2.denoising import GUIDANCE, STEPS
from lorarar.mini2.judge import Album, load_judge, save_judge, train_judge
from lorarar.mini2.lanes import Lanes, Loras, beside, load_loras, save_loras, take, together
from lorarar.mini2.looks import STYLES
from lorarar.mini2.loras import Recipe, Shown, train_loras
from lorarar.mini2.machine import DEVICE, Clock, precision, workers
from lorarar.mini2.samples import (
    CHUNK,
    Chunk,
    Sketches,
    begin,
    style_chunk,
    subject_chunk,
)
from lorarar.mini2.world import HELD_OUT_STYLES, HELD_OUT_SUBJECTS, SEEDS, SIZES, SUBJECTS

GUIDANCES = 2.0, 3.5, 5.0, 7.5
RATES, WEIGHTS = (7e-4, 1.5e-3, 3e-3), (0.3, 1.0)  # of LoRAs, to choose from
PRIOR = 4  # chunks of the base's drawings that LoRAs leave as they are


@dataclass(frozen=True)
class Plan:
    """How much of everything; seconds end a stage early, with its rate fallen to zero."""

    judge_drawings: int
    judge_steps: int
    judge_batch: int
    vae_steps: int
    vae_batch: int
    drawings: int
    steps: int
    batch: int
    recipe: Recipe
    tested: int = 32  # chunks of fresh drawings
    wishes: int = 192
    pictures: int = SIZES["pictures"]
    sampling: int = STEPS
    judge_seconds: float = float("inf")
    vae_seconds: float = float("inf")
    base_seconds: float = float("inf")
    lora_seconds: float = float("inf")
    swept: int = 6  # LoRAs of each kind that recipes are tried on
    compiled: bool = False


PLANS = {
    "smoke": Plan(512, 4, 16, 4, 8, 512, 4, 16, Recipe(steps=2, batch=1, prior=1, unprompted=1),
        tested=1, wishes=32, pictures=1, swept=1, sampling=1),
    "cpu": Plan(40_000, 4000, 64, 4000, 16, 60_000, 16_000, 32, Recipe()),
    "gpu": Plan(
        130_000, 5500, 256, 12_000, 64, 330_000, 18_000, 256, Recipe(),
        judge_seconds=45, vae_seconds=80, base_seconds=205, lora_seconds=22, compiled=True,
    ),
}  # fmt: skip


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
        path, plan = self.folder / "judge.safetensors", self.plan
        if not path.exists():
            clock = Clock("judge", plan.judge_seconds)
            album = Album(self.sketches.for_judge)
            album.fill(wait=album.coming[-1][1] // 3)
            clock.say(f"{album.filled} drawings to start with")
            judge, steps = train_judge(album, plan.judge_steps, plan.judge_batch, clock)
            self.sketches.for_judge.forget()
            save_judge(judge, path)
            facts = {"steps": steps, "seconds": clock.spent, "drawings": album.filled}
            self.note("judge_training", facts)
            self.note("judge", gates.judge_on(judge, self.fresh_drawings()))
        return load_judge(path)

    def fresh_drawings(self) -> list[Chunk]:
        tested = self.sketches.tested
        return [tested[number] for number in range(tested.count)]

    def vae(self) -> Any:
        path, plan = self.folder / "vae.safetensors", self.plan
        if not path.exists():
            clock = Clock("autoencoder", plan.vae_seconds)
            album = Album(self.for_base)
            album.fill(wait=max(1, self.for_base.count // 16))
            clock.say(f"{album.filled} drawings to start with")
            vae, steps = train_vae(
                album, plan.vae_steps, plan.vae_batch, clock, compiled=plan.compiled,
                state=self.folder / "work" / "vae.pt",
            )  # fmt: skip
            save_vae(vae, path)
            facts = {"steps": steps, "seconds": clock.spent, "drawings": album.filled}
            self.note("vae_training", facts)
            self.note("decoded", gates.judge_on(self.judge(), self.fresh_drawings(), vae))
            self.reconstructions(vae)
        return load_vae(path)

    def reconstructions(self, vae: Any) -> None:
        pictures = torch.from_numpy(self.fresh_drawings()[0].pictures[:32])
        shown = decode(vae, encode(vae, pictures)).cpu()
        drawn = pictures.permute(0, 3, 1, 2) / 255
        rows = torch.stack([drawn.unflatten(0, (4, 8)), shown.unflatten(0, (4, 8))], 1)
        self.grid("decoded", rows.flatten(0, 2), 8)

    def base(self) -> gates.World:
        path, plan = self.folder / "base.safetensors", self.plan
        judge, vae = self.judge(), self.vae()
        if not path.exists():
            clock = Clock("base", plan.base_seconds)
            pool = Pool(self.for_base.count * CHUNK, vae)
            for number in range(max(1, self.for_base.count // 8)):
                pool.add(self.for_base[number])
            clock.say(f"{pool.filled} drawings to start with")
            model, steps = train_base(
                pool, self.for_base, plan.steps, plan.batch, clock, compiled=plan.compiled
            )
            save_base(model, path)
            facts = {"steps": steps, "seconds": clock.spent, "drawings": pool.filled}
            self.note("base_training", facts | {"batch": plan.batch})
            del pool
            world = self.opened(model, vae, judge)
            return self.test_base(world)
        return self.opened(load_base(path), vae, judge)

    def opened(self, model: Any, vae: Any, judge: Any) -> gates.World:
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
        path = self.folder / "gates.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        return float(known.get("guidance", {}).get("best", GUIDANCE))

    def grid(self, name: str, pictures: torch.Tensor, columns: int) -> None:
        """Write pictures (n, 3, 128, 128) side by side."""
        images = gates.to_images(pictures)
        images = images[: len(images) // columns * columns]
        rows = [np.concatenate(images[i : i + columns], 1) for i in range(0, len(images), columns)]
        Image.fromarray(np.concatenate(rows)).save(self.folder / f"{name}.webp", quality=75)

    def shown(self, world: gates.World, names: list[str]) -> Shown:
        sets = [subject_chunk(n) if n in SUBJECTS else style_chunk(n) for n in names]
        return Shown(world.model, world.vae, sets)

    def prior(self, world: gates.World) -> Shown:
        kept = [self.for_base[number] for number in range(min(PRIOR, self.for_base.count))]
        return Shown(world.model, world.vae, [_joined(kept)])

    def sweep(self, world: gates.World, recipe: Recipe) -> dict[str, Recipe]:
        """Try learning rates and prior weights on training LoRAs; return the best of each kind."""
        subjects = [name for name in SUBJECTS if name not in HELD_OUT_SUBJECTS][: self.plan.swept]
        styles = [name for name in STYLES if name not in HELD_OUT_STYLES][: self.plan.swept]
        names, tried = [*subjects, *styles], list(product(RATES, WEIGHTS))
        lanes = [lane for _ in tried for lane in range(len(names))]
        settings = [setting for setting in tried for _ in names]
        clock = Clock("sweep", self.plan.lora_seconds)
        loras = train_loras(
            world.model, world.lanes, self.shown(world, names).lanes(lanes), self.prior(world),
            recipe, clock, rates=[s[0] for s in settings], weights=[s[1] for s in settings],
        )  # fmt: skip
        count = len(names)
        own = [take(loras, list(range(i * count, (i + 1) * count))) for i in range(len(tried))]
        results = dict(zip(tried, self.scores(world, own, names, subjects, styles), strict=True))
        best = {
            kind: max(tried, key=lambda setting: sum(results[setting][kind]))
            for kind in ("content", "style")
        }
        self.note("sweep", {str(k): v for k, v in results.items()} | {"best": best})
        return {
            kind: replace(recipe, learning_rate=rate, prior_weight=weight)
            for kind, (rate, weight) in best.items()
        }

    def scores(
        self,
        world: gates.World,
        loras: list[Loras],
        names: list[str],
        subjects: list[str],
        styles: list[str],
    ) -> list[dict[str, list[float]]]:
        """Of content: subjects right alone and beside a known look; of style: style and class."""
        count = self.plan.pictures

        def found(chosen: list[str], wish: Any, question: str) -> np.ndarray:
            wishes = [wish(name) for name in chosen] * len(loras)
            own = together([take(each, [names.index(name) for name in chosen]) for each in loras])
            right = gates.rights(world, wishes, gates.draw_lanes(world, wishes, own))[question]
            return right.reshape(len(loras), -1).mean(1)

        def content(name: str) -> list[gates.Wish]:
            return gates.content_wishes(name, count)

        def style(name: str) -> list[gates.Wish]:
            return gates.style_wishes(name, count)

        rows = (
            found(subjects, content, "subject"),
            found(subjects, gates.look_wishes, "subject"),
            found(styles, style, "style"),
            found(styles, style, "class"),
        )
        return [
            {"content": [float(a), float(b)], "style": [float(c), float(d)]}
            for a, b, c, d in zip(*rows, strict=True)
        ]

    def loras(self, world: gates.World, recipes: dict[str, Recipe]) -> tuple[Loras, list[str]]:
        path = self.folder / "loras.safetensors"
        names = [*SUBJECTS, *STYLES]
        if not path.exists():
            clock = Clock("LoRAs", self.plan.lora_seconds)
            each = [recipes["content" if name in SUBJECTS else "style"] for name in names]
            loras = train_loras(
                world.model, world.lanes, self.shown(world, names), self.prior(world), each[0],
                clock, rates=[r.learning_rate for r in each], weights=[r.prior_weight for r in each],
            )  # fmt: skip
            save_loras(loras, names, path)
            told = {kind: asdict(recipe) for kind, recipe in recipes.items()}
            self.note("lora_training", told | {"seconds": clock.spent})
        return load_loras(path, names)

    def test_loras(self, world: gates.World, loras: Loras, names: list[str]) -> None:
        """LoRAs alone, held out or not, and beside known looks."""
        count = self.plan.pictures
        for label, subjects, styles in (
            ("held_out", HELD_OUT_SUBJECTS, HELD_OUT_STYLES),
            ("all", tuple(SUBJECTS), tuple(STYLES)),
        ):
            facts = {}
            for kind, chosen, wish in (
                ("content", subjects, gates.content_wishes),
                ("style", styles, gates.style_wishes),
            ):
                wishes = [wish(name, count) for name in chosen]
                own = take(loras, [names.index(name) for name in chosen])
                pictures = gates.draw_lanes(world, wishes, own)
                facts[kind] = gates.means(gates.rights(world, wishes, pictures))
                if label == "held_out":
                    self.grid(kind, pictures.flatten(0, 1), count)
            wishes = [gates.look_wishes(token) for token in subjects]
            own = take(loras, [names.index(name) for name in subjects])
            pictures = gates.draw_lanes(world, wishes, own)
            facts["known_look"] = gates.means(gates.rights(world, wishes, pictures))
            self.note(f"loras_{label}", facts)
            if label == "held_out":
                self.grid(
                    "known_look", pictures[:, ::2].flatten(0, 1), (pictures.shape[1] + 1) // 2
                )

    def test_pairs(self, world: gates.World, label: str, loras: Loras) -> None:
        """Each held-out subject in each held-out style, a lane each."""
        wishes = gates.pair_wishes(HELD_OUT_SUBJECTS, HELD_OUT_STYLES, self.plan.pictures)
        pictures = gates.draw_lanes(world, wishes, loras)
        self.note(label, gates.both(gates.rights(world, wishes, pictures)))
        self.grid(label, pictures[:, 0], SIZES["held_out"])

    def pairs(self, loras: Loras, names: list[str]) -> tuple[Loras, Loras]:
        """The held-out LoRAs of each pair, a lane each."""
        listed = list(product(HELD_OUT_SUBJECTS, HELD_OUT_STYLES))
        content, style = ([names.index(pair[side]) for pair in listed] for side in (0, 1))
        return take(loras, content), take(loras, style)

    def joint(self, world: gates.World, recipe: Recipe) -> Loras:
        """A LoRA of both ranks for each held-out pair, trained on both sets of pictures."""
        path, listed = (
            self.folder / "joint.safetensors",
            list(product(HELD_OUT_SUBJECTS, HELD_OUT_STYLES)),
        )
        names = ["+".join(pair) for pair in listed]
        if not path.exists():
            content = self.shown(world, list(HELD_OUT_SUBJECTS))
            style = self.shown(world, list(HELD_OUT_STYLES))
            first, second = zip(*np.ndindex(2 * (SIZES["held_out"],)), strict=True)
            shown = content.lanes(first).joined(style.lanes(second))
            clock = Clock("joint", self.plan.lora_seconds)
            wider = replace(recipe, rank=2 * recipe.rank)
            loras = train_loras(world.model, world.lanes, shown, self.prior(world), wider, clock)
            save_loras(loras, names, path)
        return load_loras(path, names)[0]


def _joined(parts: list[Chunk]) -> Chunk:
    return Chunk(
        np.concatenate([part.pictures for part in parts]),
        np.concatenate([part.answers for part in parts]),
        [said for part in parts for said in part.captions],
    )


def build(folder: Path, plan: Plan, sketches: Sketches) -> None:
    """Fill `folder`: judge, vae, base and loras (.safetensors each), gates.json and pictures."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    clock = Clock("build")
    clock.say(f"{DEVICE}, {precision()}")
    work = Build(folder, plan, sketches)
    world = work.base()
    clock.say("base")
    recipes = work.sweep(world, plan.recipe)
    loras, names = work.loras(world, recipes)
    work.test_loras(world, loras, names)
    clock.say("LoRAs")
    work.test_pairs(world, "direct", beside(*work.pairs(loras, names)))
    work.test_pairs(world, "joint", work.joint(world, recipes["content"]))
    clock.say("done")


def begin_for(folder: Path, plan: Plan, processes: int) -> Sketches:
    """Begin the drawings that are still needed."""
    judged = (folder / "judge.safetensors").exists()
    counts = 0 if judged else plan.judge_drawings // CHUNK, plan.drawings // CHUNK
    return begin(plan.tested, *counts, processes)


def main(
    output: Annotated[Path, typer.Option("--output", "-o")],
    plan: Annotated[str, typer.Option(help=", ".join(PLANS))] = DEVICE.type.replace("cuda", "gpu"),
    processes: Annotated[int, typer.Option(help="that draw beside the training")] = workers(),
) -> None:
    """Train the judge, the small SDXL and its LoRAs; goes on after what is done."""
    build(output, PLANS[plan], begin_for(output, PLANS[plan], processes))


if __name__ == "__main__":
    typer.run(main)
