"""What the app knows of names: every base's layers, and how files spell them, from our tables."""

import json
import re
from pathlib import Path
from typing import Any

from lorarar.bases import BASES, layer_shapes
from lorarar.formats.named_layers import CONVERTIBLE, REFUSED
from lorarar.lora_names import ENDINGS, LYCORIS, USUAL, WRAPPER, aliases


def write(path: Path) -> None:
    """Write the asset `names.json`, which `LayerNames.parse` reads."""
    path.write_text(json.dumps(names(), separators=(",", ":")))


def names() -> dict[str, Any]:
    """Return the asset: layers and shapes are listed once, and meant by their index."""
    known = {name: layer_shapes(base) for name, base in BASES.items()}
    layers = _indices(layer for shapes in known.values() for layer in shapes)
    shapes = _indices(shape for base in known.values() for shape in base.values())
    numberings = sorted({base.layers_per_block for base in BASES.values()})
    return {
        "naming": {
            "usual": USUAL,
            "endings": ENDINGS,
            "lycoris": LYCORIS.pattern,
            "wrapper": re.sub(r"\?P<\w+>", "", WRAPPER.pattern),  # Java's names have no underscores
            "components": list(WRAPPER.groupindex),
        },
        "convertible": CONVERTIBLE,
        "refused": REFUSED,
        "layers": list(layers),
        "shapes": list(shapes),
        "bases": {
            name: {
                "layers_per_block": base.layers_per_block,
                "layers": [
                    index
                    for layer, shape in known[name].items()
                    for index in (layers[layer], shapes[shape])
                ],
            }
            for name, base in BASES.items()
        },
        "spellings": {
            number: {
                spelling: [layers[layer] for layer in meant]
                for spelling, meant in aliases(number).items()
            }
            for number in numberings
        },
    }


def _indices(items: Any) -> dict[Any, int]:
    return {item: index for index, item in enumerate(dict.fromkeys(items))}
