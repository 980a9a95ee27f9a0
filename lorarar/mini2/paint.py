"""From a scene and a look to a picture: roles at twice the size, then light and surface."""

import cv2
import numpy as np

from lorarar.mini2.looks import DARK_LINE, PALE_LINE, Look
from lorarar.mini2.places import PLACE_COLOURS, PLACES
from lorarar.mini2.scenes import COLOURS, Scene
from lorarar.mini2.textures import SIDE, TEXTURES, X, Y, noise
from lorarar.mini2.things import (
    BODY,
    LIGHT,
    MARKING,
    MARKINGS,
    ROLES,
    SKY,
    parts_of,
)

LARGE = 2 * SIDE
SHIFT = 4  # bits of a pixel's fraction
FIRST_PART = 16  # ids below are the background's roles
RADIUS = (np.hypot(X - 64, Y - 64) / 90).astype(np.float32)[..., None]
DOWN = (Y / SIDE)[..., None]
DARK_PART, LIGHT_PART = (0.13, 0.11, 0.14), (0.98, 0.97, 0.93)  # eyes and the like
TINT = 0.2  # how far a palette draws things from their own colours
LINE_WIDTHS = {"fine": 2, "bold": 6, "pale": 4, "sketchy": 2}  # in half pixels


def draw(scene: Scene, look: Look, seed: int = 0) -> np.ndarray:
    """Return (128, 128, 3) uint8 RGB. seed: of the place's details and the texture's noise."""
    cv2.setNumThreads(1)
    generator = np.random.default_rng(seed)
    roles, parts, thing = _maps(scene, generator)
    colours = _colours(scene, look)
    large = cv2.LUT(cv2.merge([roles] * 3), colours)
    pixels = cv2.resize(large, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    mask = cv2.resize(thing, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    pixels = _shade(pixels, mask, parts, look.shading, colours[0, LIGHT] / np.float32(255))
    pixels = TEXTURES[look.texture](pixels, generator)
    if look.line != "none":
        pixels = _outlined(pixels, parts, look, generator)
    return (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)


def _maps(scene: Scene, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Return each pixel's role, part, and 255 where the thing is, each (256, 256) uint8."""
    parts = np.full((LARGE, LARGE), SKY, np.uint8)
    for points, role in PLACES[scene.place](generator):
        _fill(parts, points, role)
    cosine, sine = np.cos(scene.angle), np.sin(scene.angle)
    flip = -scene.scale if scene.mirrored else scene.scale
    turn = np.array([[cosine * flip, sine * flip], [-sine * scene.scale, cosine * scene.scale]])
    at = np.array([scene.x, scene.y])
    role_of = np.arange(256, dtype=np.uint8)
    groups: dict[int, int] = {}
    number = FIRST_PART
    for points, role in parts_of(scene.individual):
        joined = role == BODY and BODY in groups
        label = groups[BODY] if joined else number
        number += not joined
        groups.setdefault(role, label)
        role_of[label] = role
        _fill(parts, points @ turn + at, label)
    roles = cv2.LUT(parts, role_of)
    thing = np.where(parts >= FIRST_PART, np.uint8(255), np.uint8(0))
    if scene.individual.marking != "none":
        marks = np.zeros((LARGE, LARGE), np.uint8)
        scale = np.array([scene.individual.stretch**0.5, scene.individual.stretch**-0.5])
        for points in MARKINGS[scene.individual.marking]:
            _fill(marks, (points * scale) @ turn + at, 1)
        roles[(marks == 1) & (thing > 0) & (roles == BODY)] = MARKING
    return roles, parts, thing


def _fill(picture: np.ndarray, points: np.ndarray, value: int) -> None:
    fixed = ((points + 1) * (SIDE * 2**SHIFT)).astype(np.int32)
    cv2.fillPoly(picture, [fixed], value, cv2.LINE_8, SHIFT)


def _colours(scene: Scene, look: Look) -> np.ndarray:
    """A table (1, 256, 3) uint8 of the roles' colours."""
    own = np.array([COLOURS[name] for name in scene.individual.colours], np.float32)
    if look.palette is None:
        around = np.array([*PLACE_COLOURS[scene.place], DARK_PART, LIGHT_PART], np.float32)
    else:
        palette = np.array(look.palette, np.float32)
        around = palette[[0, 1, 5, 6]]
        own += TINT * (palette[2:5] - own)
    sky, ground, dark, light = around
    body, marking, accessory = own
    table = np.zeros((1, 256, 3), np.float32)
    table[0, :ROLES] = [
        sky,
        0.5 * sky + 0.5 * ground * 0.9,
        ground,
        ground * 0.8 + 0.2 * dark,
        body,
        body * 0.74 + dark * 0.08,
        marking,
        accessory,
        0.55 * accessory + 0.45 * light,
        dark,
        light,
    ]
    return (table * 255 + 0.5).astype(np.uint8)


def _shade(
    pixels: np.ndarray, mask: np.ndarray, parts: np.ndarray, shading: str, light: np.ndarray
) -> np.ndarray:
    """Light from the upper left, by what the look calls it."""
    if shading == "flat":
        return pixels
    inside = mask[..., None]
    round_ = cv2.GaussianBlur(mask, (0, 0), 7)
    slope = cv2.Sobel(round_, -1, 1, 0, None, 5) + cv2.Sobel(round_, -1, 0, 1, None, 5)
    lit = slope[..., None] * (0.32 / 4)
    ground = cv2.GaussianBlur(np.roll(mask, (5, 4), (0, 1)), (0, 0), 3)[..., None]
    if shading == "cel":
        step = np.where(lit < -0.06, np.float32(-0.36), np.float32(0)) * inside
        return pixels * (1 + step - 0.2 * (ground > 0.5) * (1 - inside))
    behind = 1.06 - 0.12 * DOWN - 0.3 * ground * (1 - inside)
    shaded = pixels * np.where(inside > 0.5, 1 + np.clip(lit, -0.4, 0.25), behind)
    if shading == "vignette":
        return shaded * (1.06 - 0.62 * np.clip(RADIUS - 0.35, 0, 1) * 1.5)
    if shading == "glow":
        halo = cv2.GaussianBlur(mask, (0, 0), 9)[..., None] * (1 - inside)
        return pixels * (0.86 + 0.14 * inside) + halo * 0.85 * light
    if shading == "relief":
        edges = cv2.resize(parts, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        height = cv2.GaussianBlur(mask + 0.25 * (edges > 15.5), (0, 0), 1.6)
        bevel = cv2.Sobel(height, -1, 1, 0) + cv2.Sobel(height, -1, 0, 1)
        return shaded + np.clip(bevel, -1, 1)[..., None] * 0.3
    return shaded


def _outlined(
    pixels: np.ndarray, parts: np.ndarray, look: Look, generator: np.random.Generator
) -> np.ndarray:
    """Draw lines where one part meets another."""
    things = np.maximum(parts, FIRST_PART)  # the background has the finest of lines
    ink = _edges(things, LINE_WIDTHS[look.line]) | _edges(parts, LINE_WIDTHS["fine"])
    alpha = cv2.resize(ink, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    if look.line == "sketchy":
        once, twice = (1.3 * noise("daubs", generator) for _ in range(2))
        lines = [
            cv2.remap(alpha, X + a, Y + b, cv2.INTER_LINEAR)
            for a, b in ((once, twice), (twice + 1.0, once[::-1] - 1.0))
        ]
        alpha = np.maximum(*lines) * 0.9
    own = PALE_LINE if look.line == "pale" else DARK_LINE
    colour = np.array(look.line_colour or own, np.float32)
    return pixels + (colour - pixels) * alpha[..., None]


def _edges(parts: np.ndarray, width: int) -> np.ndarray:
    """255 where parts meet, elsewhere 0."""
    kernel = np.ones((width + 1, width + 1), np.uint8)
    return (cv2.morphologyEx(parts, cv2.MORPH_GRADIENT, kernel) > 0).astype(np.uint8) * 255
