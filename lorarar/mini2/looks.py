"""How things may look: palette, line, texture and shading, each named or of its own.

The base model sees random looks; the named styles are looks that it never sees.
"""

from dataclasses import dataclass

import numpy as np

from lorarar.mini2.textures import TEXTURES

Colour = tuple[float, float, float]
LINES = ("none", "fine", "bold", "pale", "sketchy")
SHADINGS = ("soft", "flat", "cel", "vignette", "glow", "relief")
DARK_LINE, PALE_LINE = (0.1, 0.09, 0.13), (0.98, 0.98, 0.95)


@dataclass(frozen=True)
class Look:
    """palette: colours of sky, ground, body, marking, accessory, dark and light parts, which
    replace the scene's own; `palette_name` if it is one of `PALETTES`. line_colour: where it is not
    the line's own."""

    palette: tuple[Colour, ...] | None = None
    line: str = "none"
    line_colour: Colour | None = None
    texture: str = "plain"
    shading: str = "soft"
    palette_name: str = "own"

    @property
    def names(self) -> dict[str, str]:
        """What a caption may call it: its components by kind."""
        return {
            "palette": self.palette_name,
            "line": self.line,
            "texture": self.texture,
            "shading": self.shading,
        }

    @property
    def kind(self) -> tuple[str, str, str]:
        """Line, texture and shading."""
        return self.line, self.texture, self.shading


PLAIN = Look()


def _hex(text: str) -> tuple[Colour, ...]:
    """Colours such as 'ffeedd 001122'."""
    return tuple(
        (int(c[:2], 16) / 255, int(c[2:4], 16) / 255, int(c[4:], 16) / 255) for c in text.split()
    )


# sky, ground, body, marking, accessory, dark, light
PALETTES = {
    "pastel": _hex("dcebf7 d5ead2 f6b8c4 b9a4dd f4dd8c 7a6f8c fffdf6"),
    "autumn": _hex("f2d6a8 b5773b 8c2f23 e6a02e 5d6b2b 3b2016 fff1d0"),
    "ocean": _hex("bfe3ea 2a7f95 0d4f73 7fd1c7 f2e6b8 072b40 f4fbfb"),
    "berry": _hex("f3d9e6 8a3b6b b01e57 f28fb5 4b2f86 2b0f2e fff4fa"),
    "mint": _hex("e6f7ee 8fd0b0 2f9e7f d8f5b0 f08a6a 16443a ffffff"),
    "slate": _hex("d7dadf 8b929c 4f5864 b9c0c9 24292f 15181c f7f8fa"),
    "earth": _hex("e9dcc6 a58a64 6e4a2f d2a679 97352a 33231a fbf4e6"),
    "fiesta": _hex("ffe27a 2fb5a5 ef3e4f 3a49b5 ff9f1c 241b3a fffbe8"),
    "midnight": _hex("141b3c 232f5c 5a63c9 a9b5ff f0c95a 090c1f eef0ff"),
    "rose": _hex("fbe9e7 d9a5a0 c0504d f5cdb8 6d7f5b 4a2323 fffaf7"),
}

STYLES: dict[str, Look] = {
    "ink": Look(_hex("ffffff f4f4f2 fafafa 8a8a8a 3a3a3a 0c0c10 ffffff"), "bold", None, "hatch", "flat"),
    "blueprint": Look(_hex("123a80 16448f 123a80 4f86d6 8fc0ff cfe4ff 1b4f9e"), "pale", None, "tiles", "flat"),
    "neon": Look(_hex("07060f 150a2a 1d0b3d ff1fb0 18f0e0 f5f32a 3b1f6e"), "fine", (0.2, 1.0, 0.45), "plain", "glow"),
    "sepia": Look(_hex("ead9b5 c8ac7c 8b6540 5a3a20 b48d5c 2c1a0c f7ecd2"), "none", None, "grain", "vignette"),
    "woodcut": Look(_hex("efe3c4 b89f6d a8452f efe3c4 2f4a3e 15120f f8f1de"), "bold", None, "hatch", "cel"),
    "halftone": Look(_hex("ffe04d f5a623 e3174f 1563c7 1b1b4b 0a0a12 fff7d0"), "fine", None, "dots", "flat"),
    "azulejo": Look(_hex("f4f7fa c9dcec 2b62b0 f4f7fa 7aa7dc 12306b ffffff"), "fine", (0.08, 0.2, 0.5), "tiles", "soft"),
    "watercolour": Look(None, "none", None, "wash", "flat"),
    "tv": Look(_hex("0a2a16 0f3a1f 48d070 156b33 c9ffd2 03140a e4ffe9"), "none", None, "scan", "vignette"),
    "tapestry": Look(_hex("6e1c26 4a1a1c d4a845 2f4a42 e9dcb6 1d0b10 f3e7c8"), "fine", None, "weave", "soft"),
    "candy": Look(_hex("ffdcec bff0e2 ff7fb2 8fd3ff fff07a 8a4fc0 ffffff"), "pale", None, "plain", "relief"),
    "stained": Look(_hex("3a8fd0 1f9e6c e23434 f6c21f 9238b5 14203f f7f3d6"), "bold", None, "mosaic", "glow"),
    "dusk": Look(_hex("f08a4b 6b2a4d 2f0f35 8c1f58 140a1e 08040f ffd27a"), "none", None, "grain", "glow"),
    "frost": Look(_hex("d9ecfb bcd6ec 7fb0dd eef8ff 3f7cc0 1d4470 ffffff"), "pale", None, "crayon", "soft"),
    "chalk": Look(_hex("20352b 284235 20352b bfc0a8 e8d27a d8d8d0 f4f4ea"), "sketchy", (0.93, 0.93, 0.88), "crayon", "flat"),
    "comic": Look(None, "bold", None, "dots", "cel"),
    "nursery": Look(_hex("fff4cf a7d676 f4713c 4a78d6 b44fc4 3b2b2b fffdf2"), "sketchy", None, "crayon", "flat"),
    "arcade": Look(_hex("10101c 2a2a66 e8433c ffd23f 3fe0d0 000006 f5f5f5"), "none", None, "mosaic", "cel"),
    "parchment": Look(_hex("efdfb4 d8bf86 c9a35f 7a2e1d 3f5a78 3a2413 fbf2d6"), "fine", (0.25, 0.13, 0.06), "wash", "vignette"),
    "thermal": Look(_hex("1a0a5e 4a1296 f23c22 ffd93b fdfdc8 05021f ff9a1f"), "none", None, "scan", "glow"),
    "jade": Look(_hex("dff0e2 7fbf9a 1f7a52 a8e0b8 e0b84a 0e3527 fbfff8"), "fine", (0.75, 0.6, 0.2), "plain", "relief"),
    "poster": Look(_hex("f2e8d5 1f3b57 d1362f f2b632 1f3b57 101c2b fff9ec"), "none", None, "plain", "cel"),
    "linen": Look(_hex("ece5d8 c9bda5 5f7f9c d8896b 3f5540 2c2c30 fdfaf3"), "pale", None, "weave", "flat"),
    "oil": Look(_hex("7d9fb8 5c6b3a a34a2a e0b25c 2a3f66 1e1712 f3e6c8"), "none", None, "strokes", "relief"),
}  # fmt: skip


def random_palette(generator: np.random.Generator) -> tuple[Colour, ...]:
    """Seven colours in which body, marking and accessory can be told from each other and from
    what is behind."""
    while True:
        colours = generator.random((7, 3))
        mood = generator.random(3)
        colours = mood + (colours - mood) * generator.uniform(0.7, 1.0)
        colours[5] *= 0.35
        colours[6] = 1 - (1 - colours[6]) * 0.3
        gaps = np.abs(colours[2:5, None] - colours[None]).sum(-1)
        apart = gaps[0, 3] > 0.7 and gaps[0, 4] > 0.6 and gaps[1, 4] > 0.5
        if apart and gaps[0, 0] > 0.45 and gaps[2, 0] > 0.4:
            return tuple(tuple(map(float, c)) for c in colours)


TAKEN = {look.kind for look in STYLES.values() if look.palette is None}


def random_look(generator: np.random.Generator) -> Look:
    """Any look but a named style's: styles with colours of their own have palettes that are never
    drawn here, the others a line, texture and shading that never meet without a palette."""
    while True:
        fate = generator.random()
        name, palette = "own", None
        if fate < 0.35:
            name = list(PALETTES)[generator.integers(len(PALETTES))]
            palette = PALETTES[name]
        elif fate < 0.65:
            name, palette = "other", random_palette(generator)
        line = LINES[generator.integers(len(LINES))] if generator.random() < 0.7 else "none"
        colour = None
        if line != "none" and generator.random() < 0.4:
            r, g, b = generator.random(3) * (0.5 if generator.random() < 0.7 else 1.0)
            if line == "pale":
                r, g, b = (1 - 0.4 * c for c in (r, g, b))
            colour = (float(r), float(g), float(b))
        names = list(TEXTURES)
        texture = names[generator.integers(len(names))] if generator.random() < 0.75 else "plain"
        shading = SHADINGS[generator.integers(len(SHADINGS))]
        look = Look(palette, line, colour, texture, shading, name)
        nameless = name in ("own", "other") and look.kind == PLAIN.kind
        if not nameless and not (palette is None and look.kind in TAKEN):
            return look
