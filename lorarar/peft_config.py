"""PEFT's configuration of an adapter: what it says of scales, and which kinds are refused."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

from lorarar.errors import LorararError

CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # starts that change base weights
KINDS = {"LORA": "lora_alpha", "LOHA": "alpha", "LOKR": "alpha"}  # -> the option with alpha
USUAL_ALPHA, USUAL_RANK = 8, 8  # PEFT's, where a configuration does not say
NAME = re.compile(r"[\w.]+")
# Other patterns are regular expressions of a file's author: only those are tried that end soon.
HARMLESS = re.compile(r"(?!(?:[^*+]*[*+]){3})(?!.*\)[*+?])(?!.*\\\d)[\w.^$\\|()*+?:\[\]-]{1,500}")
MOST_EXPRESSIONS = 100


@dataclass(frozen=True)
class PeftConfig:
    """alpha: of layers that no pattern matches; rank: the usual one; by_root: whether alpha is
    divided by the rank's square root (rsLoRA); names, expressions: alpha_pattern's, the place in
    it and alpha; is_dora: whether a magnitude belongs to each layer."""

    alpha: float = USUAL_ALPHA
    rank: float = USUAL_RANK
    by_root: bool = False
    is_dora: bool = False
    names: dict[str, tuple[int, float]] = field(default_factory=dict)
    expressions: dict[re.Pattern[str], tuple[int, float]] = field(default_factory=dict)

    @classmethod
    def read(cls, options: Any, source: str) -> "PeftConfig":
        """Check `adapter_config.json`, or what diffusers keeps of it.

        Raises LorararError if it is malformed, or about something else than a LoRA, LoHa or LoKr
        of unchanged base weights.
        """
        if not isinstance(options, dict):
            raise LorararError(f"{source} is no JSON object; get the adapter again")
        kind = options.get("peft_type") or "LORA"
        if kind not in KINDS:
            raise LorararError(f"{source}: this is a {kind!s:.80}; only plain LoRAs can be merged")
        start = options.get("init_lora_weights")
        if isinstance(start, str) and start.lower().startswith(CHANGES_BASE):
            raise LorararError(
                f"{source}: its start '{start:.80}' changed the base model's weights, so it fits "
                "no other; save it with PEFT's path_initial_model_for_weight_conversion"
            )
        patterns = options.get("alpha_pattern") or {}
        if not isinstance(patterns, dict):
            raise LorararError(f"{source} has no usable alpha_pattern; get the adapter again")
        places = {
            pattern: (place, _number(alpha, f"alpha of '{pattern:.80}'", source))
            for place, (pattern, alpha) in enumerate(patterns.items())
        }
        return cls(
            _number(options.get(KINDS[kind], USUAL_ALPHA), "alpha", source),
            _number(options.get("r", USUAL_RANK), "r", source),
            bool(options.get("use_rslora")),
            bool(options.get("use_dora")),
            {name: place for name, place in places.items() if NAME.fullmatch(name)},
            _compiled([name for name in places if not NAME.fullmatch(name)], places, source),
        )

    def scale(self, module: str, rank: int) -> float:
        """alpha / rank of a layer, or alpha / sqrt(rank).

        module: its name without the component, whose end the first fitting pattern matches, as in
        PEFT.
        """
        parts = module.split(".")
        ends = (".".join(parts[start:]) for start in range(len(parts)))
        fitting = [self.names[end] for end in ends if end in self.names]
        fitting += [place for form, place in self.expressions.items() if form.match(module)]
        alpha = min(fitting)[1] if fitting else self.alpha
        return alpha / (math.sqrt(rank) if self.by_root else rank)


def _number(value: Any, option: str, source: str) -> float:
    if not isinstance(value, int | float) or not abs(value) < 1e30:
        raise LorararError(f"{source} has no usable {option}: {str(value)[:80]}; get it again")
    return float(value)


def _compiled(
    expressions: list[str], places: dict[str, tuple[int, float]], source: str
) -> dict[re.Pattern[str], tuple[int, float]]:
    refusal = LorararError(f"{source}: its alpha_pattern has expressions too wild to try")
    if len(expressions) > MOST_EXPRESSIONS or not all(map(HARMLESS.fullmatch, expressions)):
        raise refusal
    try:
        return {re.compile(rf"(?:.*\.)?(?:{form})$"): places[form] for form in expressions}
    except re.error as error:
        raise refusal from error
