"""The stages of a build after the base model: LoRAs, their recipe, and both at once."""

from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np

from lorarar.mini2 import gates
from lorarar.mini2.lanes import Loras, load_loras, save_loras, take, together
from lorarar.mini2.looks import STYLES
from lorarar.mini2.loras import Recipe, Shown, train_loras
from lorarar.mini2.machine import Clock
from lorarar.mini2.samples import Chunk, style_chunk, subject_chunk
from lorarar.mini2.stages import Build
from lorarar.mini2.world import HELD_OUT_STYLES, HELD_OUT_SUBJECTS, SIZES, SUBJECTS

RATES, WEIGHTS = (1.5e-3, 3e-3, 6e-3), (0.0, 0.1, 0.3)  # of LoRAs, to choose from
PRIOR = 4  # chunks of the base's drawings that LoRAs leave as they are


class Tuning(Build):
    """LoRAs of every subject and style, and of held-out pairs at once."""

    def shown(self, world: gates.World, names: list[str]) -> Shown:
        """What the LoRAs of these names learn from, encoded, a lane of 20 pictures each."""
        sets = [subject_chunk(n) if n in SUBJECTS else style_chunk(n) for n in names]
        return Shown(world.model, world.vae, sets)

    def prior(self, world: gates.World) -> Shown:
        """Up to `PRIOR` chunks (128 each) of the base's drawings, encoded, as one lane."""
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
        """All 60 and their names from their file, first trained, by kind, if there is none."""
        path = self.folder / "loras.safetensors"
        names = [*SUBJECTS, *STYLES]
        if not path.exists():
            clock = Clock("LoRAs", self.plan.lora_seconds)
            each = [recipes["content" if name in SUBJECTS else "style"] for name in names]
            rates = [recipe.learning_rate for recipe in each]
            weights = [recipe.prior_weight for recipe in each]
            loras = train_loras(
                world.model, world.lanes, self.shown(world, names), self.prior(world), each[0],
                clock, rates=rates, weights=weights,
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
