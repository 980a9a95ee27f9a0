"""Train the hypernetwork on random pairs of LoRAs (arXiv 2412.05148, section 3.3)."""

from collections.abc import Mapping
from itertools import product
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from lorarar.artefacts.training import TrainingManifest, check_trained, load_manifest
from lorarar.diffusion.pipeline import load_onto
from lorarar.diffusion.two_loras import (
    Factors,
    Pair,
    attention_projections,
    carry,
    pair_up,
    pairs_of,
    torch_factors,
)
from lorarar.errors import LorararError
from lorarar.files import refuse_existing
from lorarar.hypernet import ROLES, Hypernet, is_predicted, save_hypernet
from lorarar.lora import load_lora
from lorarar.plot import plot_losses
from lorarar.training.denoising import Examples, default_side, encode, naming_both
from lorarar.training.images import load_examples
from lorarar.training.loop import LOSSES, STATE, scaler_of, train
from lorarar.training.objective import merge_loss, overlap, together_loss
from lorarar.training.recipes import OBJECTIVES, HypernetRecipe

VALIDATION_BATCHES = 4
Names = tuple[str, str]  # of a content and a style LoRA


class TorchHypernet(nn.Module):
    """`lorarar.hypernet.Hypernet`, trainable; starts at the direct sum, m = 1.

    shapes: of the layers it predicts, (out, in).
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]], recipe: HypernetRecipe) -> None:
        super().__init__()
        self.predicts = recipe.predicts
        widths = sorted({out for out, _ in shapes.values()})
        self.inputs: Any = nn.ModuleDict({str(w): nn.Linear(2 * w, recipe.hidden) for w in widths})
        self.output = nn.Linear(recipe.hidden, 2)
        nn.init.zeros_(self.output.weight)
        nn.init.ones_(self.output.bias)
        self.layers = list(shapes) if recipe.offsets else []
        self.offsets = nn.ParameterList(
            torch.zeros(2, columns) for _, columns in shapes.values() if recipe.offsets
        )

    def forward(self, pairs: Mapping[str, Pair]) -> dict[str, Tensor]:
        """Map each layer's pair to its coefficients (2, in), in factored form."""
        offsets = dict(zip(self.layers, self.offsets, strict=True))
        return {name: self._predict(pair) + offsets.get(name, 0) for name, pair in pairs.items()}

    def _predict(self, pair: Pair) -> Tensor:
        width = len(pair.content[0])
        linear = self.inputs[str(width)]
        halves = linear.weight.split(width, 1)
        features = [(half @ up) @ down for half, (up, down) in zip(halves, pair, strict=True)]
        hidden = torch.relu(features[0] + features[1] + linear.bias[:, None])
        return self.output.weight @ hidden + self.output.bias[:, None]

    def frozen(self) -> Hypernet:
        def arrays(linear: Any) -> tuple[np.ndarray, np.ndarray]:
            weight, bias = (p.detach().cpu().numpy() for p in (linear.weight, linear.bias))
            return weight, bias

        inputs = {int(width): arrays(linear) for width, linear in self.inputs.items()}
        offsets = [offset.detach().cpu().numpy() for offset in self.offsets]
        named = dict(zip(self.layers, offsets, strict=True))
        return Hypernet(inputs, arrays(self.output), self.predicts, offsets=named)


class Best:
    """The weights that validated best so far; a part of the training's state."""

    def __init__(self) -> None:
        self.loss, self.weights = float("inf"), dict[str, Tensor]()

    def offer(self, loss: float, module: nn.Module) -> None:
        if loss < self.loss:
            self.loss = loss
            self.weights = {k: v.detach().clone() for k, v in module.state_dict().items()}

    def state_dict(self) -> dict:
        return vars(self)

    def load_state_dict(self, state: dict) -> None:
        self.__dict__.update(state)


def train_hypernet(
    model: str | Path | None, loras: Path, output: Path, recipe: HypernetRecipe, force: bool = False
) -> None:
    """Train on the LoRAs of a manifest (see `lorarar.artefacts.training`) and write `output`.

    Each step draws a training pair and a batch of each LoRA's examples. No dW is built: gradients
    reach the hypernetwork through m alone. Losses, their picture and, until it is done, the
    training's state are kept in `OUTPUT.training/`, from where the same call goes on. Run it with
    `accelerate launch -m lorarar train ...` on several devices: each then takes pairs of its own.

    Raises LorararError for bad input, a loss that is not finite, or if nothing can be written.
    """
    refuse_existing(output, force)
    manifest = load_manifest(loras)
    training, validation = split_pairs(manifest, recipe)
    check_trained(manifest, held_out=False)
    _check_objective(manifest, recipe)
    accelerator = Accelerator(mixed_precision=recipe.precision)
    pipeline = load_onto(accelerator.device, model, recipe.precision)
    side = recipe.side or default_side(pipeline)
    entries = {entry.name: entry for entry in manifest.loras if not entry.held_out}
    listed = {name: load_examples(entry.images, entry.prompt) for name, entry in entries.items()}
    examples = {name: encode(pipeline, each, side) for name, each in listed.items()}
    prompts = {name: [example.prompt for example in each] for name, each in listed.items()}
    unet = pipeline.unet.requires_grad_(False)
    if recipe.checkpointing:
        unet.enable_gradient_checkpointing()
    shapes = attention_projections(unet)
    predicted = {name: s for name, s in shapes.items() if is_predicted(name, recipe.predicts)}
    if not predicted:
        raise LorararError(f"--predicts {' '.join(recipe.predicts)}: names no layer of this model")
    paired = pair_up(unet, list(shapes))
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    backward = accelerator.backward  # scales losses in fp16

    def factors(name: str) -> dict[str, Factors]:
        return torch_factors(load_lora(entries[name].file), shapes, accelerator.device)

    def predict_for(names: Names) -> dict[str, Tensor]:
        pairs = pairs_of(*(factors(name) for name in names))
        carry(paired, pairs)
        return hypernet({name: pairs[name] for name in predicted})

    def batches(names: Names) -> dict[str, Examples]:
        return {
            role: examples[name].some(recipe.batch) for role, name in zip(ROLES, names, strict=True)
        }

    def together(names: Names) -> Examples:
        content, style = batches(names).values()
        said, phrase = prompts[names[0]], entries[names[1]].phrase
        return naming_both(pipeline, content.beside(style), said, phrase)

    def loss_of(names: Names, m: Mapping[str, Tensor]) -> float:
        with accelerator.autocast():
            if recipe.objective == "together":
                return together_loss(unet, paired, m, together(names), scheduler, backward)
            return merge_loss(unet, paired, m, batches(names), scheduler, backward)

    def step(index: int) -> float:
        names = training[int(torch.randint(len(training), ()))]
        m = predict_for(names)
        leaves = {name: each.detach().requires_grad_() for name, each in m.items()}
        loss = loss_of(names, leaves)
        apart = recipe.similarity * overlap(leaves)
        backward(apart)
        optimiser.zero_grad()
        torch.autograd.backward(list(m.values()), [leaf.grad for leaf in leaves.values()])
        optimiser.step()
        schedule.step()
        return float(accelerator.reduce(loss + apart.detach(), "mean"))

    @torch.no_grad()
    def validate() -> float:
        loss = 0.0
        for names in validation * VALIDATION_BATCHES:
            loss += loss_of(names, predict_for(names))
        loss /= len(validation) * VALIDATION_BATCHES
        best.offer(loss, accelerator.unwrap_model(hypernet))
        return loss

    torch.manual_seed(recipe.seed)
    hypernet: Any = TorchHypernet(predicted, recipe).to(accelerator.device)
    scale_inputs(hypernet, [factors(name) for name in training[0]], predicted)
    groups: list[dict[str, Any]] = [
        {"params": [*hypernet.inputs.parameters(), *hypernet.output.parameters()]},
        {"params": [*hypernet.offsets.parameters()], "lr": recipe.offsets},
    ]
    optimiser: Any = torch.optim.AdamW(groups, recipe.learning_rate)
    last = recipe.steps if recipe.decay else float("inf")
    schedule = LambdaLR(optimiser, lambda index: (1 + cos(pi * index / last)) / 2)
    hypernet, optimiser = accelerator.prepare(hypernet, optimiser)
    best = Best()
    work = output.with_name(f"{output.name}.training")
    parts = {
        "hypernet": accelerator.unwrap_model(hypernet),
        "optimiser": optimiser,
        "schedule": schedule,
        "best": best,
    }
    train(
        step,
        parts | scaler_of(accelerator),
        recipe.steps,
        work,
        recipe.seed,
        "hypernetwork",
        recipe.save_every,
        accelerator.process_index,
        validate,
    )
    if accelerator.is_main_process:
        trained = accelerator.unwrap_model(hypernet)
        trained.load_state_dict(best.weights)
        save_hypernet(trained.frozen(), output, force)
        plot_losses(work / LOSSES, work / "loss.png")
        (work / STATE).unlink()


def split_pairs(
    manifest: TrainingManifest, recipe: HypernetRecipe
) -> tuple[list[Names], list[Names]]:
    """Split the pairs of LoRAs that are not held out into training and validation, by the seed.

    Raises LorararError if there are too few.
    """
    content, style = ([e.name for e in manifest.of(kind, held_out=False)] for kind in ROLES)
    pairs = list(product(content, style))
    kept = recipe.validation_pairs
    if len(pairs) <= kept or kept < 1:
        raise LorararError(
            f"{manifest.path}: {len(content)} content and {len(style)} style LoRAs make "
            f"{len(pairs)} pairs, too few to validate on {kept}; add LoRAs"
        )
    order = np.random.default_rng(recipe.seed).permutation(len(pairs))
    shuffled = [pairs[index] for index in order]
    return shuffled[kept:][: recipe.pairs], shuffled[:kept]


def _check_objective(manifest: TrainingManifest, recipe: HypernetRecipe) -> None:
    if recipe.objective not in OBJECTIVES:
        raise LorararError(
            f"--objective {recipe.objective}: unknown; use one of {', '.join(OBJECTIVES)}"
        )
    for entry in manifest.of("style", held_out=False):
        if recipe.objective == "together" and not entry.phrase:
            raise LorararError(
                f"{manifest.path}: gives '{entry.file.name}' no phrase, which --objective together "
                'adds to prompts; add "phrase": "in ... style"'
            )


@torch.no_grad()
def scale_inputs(
    hypernet: TorchHypernet, loras: list[dict[str, Factors]], predicted: Mapping[str, Any]
) -> None:
    """Scale the input weights so that hidden features start with a deviation of 1.

    Columns of dW are small and their size depends on how the LoRAs were trained.
    """
    pairs = pairs_of(*loras)
    for width, linear in hypernet.inputs.items():
        halves = linear.weight.split(int(width), 1)
        features = [
            (half @ up) @ down
            for name in predicted
            for half, (up, down) in zip(halves, pairs[name], strict=True)
            if len(up) == int(width)
        ]
        linear.weight.div_(torch.cat([f.flatten() for f in features]).std())
