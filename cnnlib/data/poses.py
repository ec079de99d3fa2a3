"""Stick figures: a small generated set of images with keypoints, for networks that put out heatmaps.

Each image shows one figure with a head, two arms and two legs, at a random place, size, turn and pose, over a ground
with stray lines and noise. The figure faces the viewer and is turned by any angle, so that nothing near a hand tells
whether it is a hand or a foot, left or right: a network has to look at the head and the trunk for that.

The same seed gives the same images on every machine, as for Shapes-10 (:mod:`cnnlib.data.shapes`). This is drawn data.
What is measured on it says nothing about photographs of people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnnlib.data.bits import Random
from cnnlib.data.images import DataError
from cnnlib.errors import require_integers, require_whole

Array = np.ndarray

SIDE = 40
"""Height and width of an image in pixels."""

JOINTS = ("head", "neck", "pelvis", "left hand", "right hand", "left foot", "right foot")
"""The keypoints, in the order of :attr:`PoseSet.joints`. Left and right are those of the figure."""

BLOCK = 250
"""Figures drawn together. Another number would give other images."""

MARGIN = 3
"""Pixels that all keypoints keep from the border."""


@dataclass(frozen=True, eq=False, repr=False)
class PoseSet:
    """Drawn figures with their keypoints.

    Attributes:
        images: uint8 (N, 1, 40, 40), grey.
        joints: float32 (N, 7, 2), x and y of each of :data:`JOINTS` in pixels; the first pixel's centre is (0, 0).
    """

    images: Tensor
    joints: Tensor

    def __str__(self) -> str:
        return f"{len(self)} generated stick figures, {SIDE}x{SIDE} grey, {len(JOINTS)} keypoints each"

    __repr__ = __str__

    def __len__(self) -> int:
        return len(self.images)


def poses(count: int, seed: int = 0) -> PoseSet:
    """Draw ``count`` stick figures. Fewer figures of a seed are the first ones of more.

    Raises:
        DataError: if ``count`` is not a positive whole number, or ``seed`` is negative or not a whole number.
    """
    require_integers(DataError, count=count)
    require_whole(DataError, 0, seed=seed)
    if count < 1:
        raise DataError(f"draw at least one figure, not {count}")
    blocks = [_draw(Random((seed, start), BLOCK)) for start in range(0, count, BLOCK)]
    images, joints = (torch.from_numpy(np.concatenate(parts))[:count] for parts in zip(*blocks, strict=True))
    return PoseSet(images[:, None].contiguous(), joints.contiguous())


def _towards(degrees: Array) -> Array:
    """Return unit vectors (N, 2) at an angle from straight down, counted towards the right of the picture."""
    # In double precision and then rounded: the last bit, in which machines differ, is gone.
    angle = degrees.astype(np.float64) * (np.pi / 180)
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)


def _skeleton(random: Random) -> dict[str, Array]:
    """Return the points (N, 2) of figures in pixels, x to the right and y downwards, somewhere in the picture."""
    trunk, turn = random(8, 11)[:, None], random(-180, 180)
    up = -_towards(turn)
    points = {"pelvis": np.zeros((random.count, 2), np.float32), "neck": trunk * up}
    points["head"] = points["neck"] + np.float32(0.4) * trunk * up
    points["scale"] = trunk
    for side, sign in (("left", np.float32(1)), ("right", np.float32(-1))):  # its left is on the viewer's right
        arm, leg = random(25, 140), random(6, 55)
        for limb, joint, start, angle, bend, lengths in (
            ("hand", "elbow", "neck", arm, random(-60, 60), (0.5, 0.45)),
            ("foot", "knee", "pelvis", leg, random(-40, 25), (0.6, 0.6)),
        ):
            first, second = (np.float32(part) * trunk for part in lengths)
            points[f"{side} {joint}"] = points[start] + first * _towards(turn + sign * angle)
            points[f"{side} {limb}"] = points[f"{side} {joint}"] + second * _towards(turn + sign * (angle + bend))
    return _placed(points, random)


def _placed(points: dict[str, Array], random: Random) -> dict[str, Array]:
    """Shift each figure to a random place at which all its points are in the picture."""
    scale = points.pop("scale")
    everything = np.stack(list(points.values()), axis=1)
    least = MARGIN - everything.min(1)
    most = np.maximum(SIDE - 1 - MARGIN - everything.max(1), least)
    shift = least + (most - least) * random(0, 1, 2)
    return {name: point + shift for name, point in points.items()} | {"scale": scale}


def _draw(random: Random) -> tuple[Array, Array]:
    """Return images, uint8 (count, 40, 40), and joints, float32 (count, 7, 2)."""
    points = _skeleton(random)
    radius = np.float32(0.26) * points["scale"][:, :, None]
    bones = [("neck", "pelvis")]
    for side in ("left", "right"):
        bones += [("neck", f"{side} elbow"), (f"{side} elbow", f"{side} hand")]
        bones += [("pelvis", f"{side} knee"), (f"{side} knee", f"{side} foot")]
    distance = _to_point(points["head"]) - radius
    for start, end in bones:
        distance = np.minimum(distance, _to_segment(points[start], points[end]) - np.float32(0.8))

    light = random(0.25, 0.75, 1, 1)
    contrast = random(0.3, 0.6, 1, 1)
    figure = np.where(light > 0.5, light - contrast, light + contrast)
    slope = random(-0.2, 0.2, 2, 1, 1) / SIDE
    x, y = _grid()
    picture = light + slope[:, 0] * (x - SIDE / 2) + slope[:, 1] * (y - SIDE / 2)
    for _ in range(3):  # stray lines, as thick as a limb and as light as the figure
        middle, half = random(0, SIDE, 2), random(2, 6)[:, None] * _towards(random(-180, 180))
        stray = _to_segment(middle - half, middle + half) - np.float32(0.8)
        picture = picture + (figure - picture) * _covered(stray)
    picture = picture + (figure - picture) * _covered(distance)
    picture = picture + random(0, 0.15, 1, 1) * random(-1, 1, SIDE, SIDE)
    pixels = np.clip(picture, 0, 1).astype(np.float32) * np.float32(255) + np.float32(0.5)
    return pixels.astype(np.uint8), np.stack([points[name] for name in JOINTS], axis=1)


def _grid() -> tuple[Array, Array]:
    axis = np.arange(SIDE, dtype=np.float32)
    return axis[None, None, :], axis[None, :, None]


def _to_point(point: Array) -> Array:
    """Return the distance of each pixel from a point: (N, 2) to (N, 40, 40)."""
    x, y = _grid()
    return np.sqrt((x - point[:, 0, None, None]) ** 2 + (y - point[:, 1, None, None]) ** 2)


def _to_segment(start: Array, end: Array) -> Array:
    """Return the distance of each pixel from a line between two points: (N, 2) twice to (N, 40, 40)."""
    x, y = _grid()
    along_x, along_y = ((end - start)[:, axis, None, None] for axis in (0, 1))
    from_x, from_y = x - start[:, 0, None, None], y - start[:, 1, None, None]
    length = np.maximum(along_x * along_x + along_y * along_y, np.float32(1e-6))
    share = np.clip((from_x * along_x + from_y * along_y) / length, 0, 1)
    return np.sqrt((from_x - share * along_x) ** 2 + (from_y - share * along_y) ** 2)


def _covered(distance: Array) -> Array:
    """Return which share of each pixel lies inside, from its distance to the edge."""
    return np.clip(np.float32(0.5) - distance, 0, 1)
