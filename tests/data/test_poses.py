"""The stick figures: what their keypoints say is what the pictures show."""

import hashlib

import pytest
import torch

from cnnlib.data import DataError, poses
from cnnlib.data.poses import JOINTS, MARGIN, SIDE


@pytest.fixture(scope="module")
def figures():
    return poses(600)


def test_format(figures):
    assert figures.images.shape == (600, 1, SIDE, SIDE)
    assert figures.images.dtype == torch.uint8
    assert figures.joints.shape == (600, len(JOINTS), 2)
    assert figures.joints.dtype == torch.float32
    assert str(figures) == "600 generated stick figures, 40x40 grey, 7 keypoints each"


def test_the_same_bytes_on_every_machine():
    """A change of these sums is a change of the data set: all numbers measured on it are then out of date."""
    few = poses(50)
    assert hashlib.md5(few.images.numpy().tobytes()).hexdigest() == "f8d85045ea07195e8814b581b2658831"
    assert (
        hashlib.md5((few.joints * 64).round().short().numpy().tobytes()).hexdigest()
        == "9cf6a1576f38dca6747c6b4a523bec7e"
    )


def test_fewer_figures_are_the_first_of_more(figures):
    few = poses(270)
    assert torch.equal(few.images, figures.images[:270])
    assert torch.equal(few.joints, figures.joints[:270])


def test_another_seed_gives_other_figures(figures):
    images = torch.cat([figures.images, poses(600, seed=1).images])
    assert len({image.numpy().tobytes() for image in images}) == len(images)


def test_all_joints_are_in_the_picture(figures):
    assert figures.joints.min() > MARGIN - 1e-3
    assert figures.joints.max() < SIDE - 1 - MARGIN + 1e-3


def test_a_joint_lies_on_the_figure(figures):
    """All joints of a figure have its own grey, but for the noise, and most of the picture has another."""
    x, y = figures.joints.round().long().unbind(-1)
    pixels = figures.images[:, 0].float()
    at_joints = pixels[torch.arange(len(pixels))[:, None], y, x]
    spread = at_joints.std(1)
    contrast = (at_joints.mean(1) - pixels.flatten(1).median(1).values).abs()
    assert (spread < 30).float().mean() > 0.95
    assert (contrast > 45).float().mean() > 0.95


def test_left_and_right_are_those_of_a_figure_that_faces_the_viewer(figures):
    """With its head up, its left foot is on the right of the picture: seen in the frame of the trunk."""
    points = dict(zip(JOINTS, figures.joints.unbind(1), strict=True))
    up = points["neck"] - points["pelvis"]
    to_its_left = torch.stack((-up[:, 1], up[:, 0]), -1)  # up turned clockwise; y runs downwards
    apart = points["left foot"] - points["right foot"]
    assert ((apart * to_its_left).sum(-1) > 0).float().mean() > 0.9
    assert ((points["head"] - points["neck"]) * up).sum(-1).min() > 0


def test_every_turn_occurs(figures):
    up = figures.joints[:, 1] - figures.joints[:, 2]
    angle = torch.atan2(up[:, 1], up[:, 0])
    counts = torch.histc(angle, bins=8, min=-torch.pi, max=torch.pi)
    assert counts.min() > 600 / 8 / 2


def test_there_must_be_a_figure():
    with pytest.raises(DataError, match="at least one figure, not 0"):
        poses(0)


def test_numbers_are_whole_and_seeds_not_negative():
    for wrong in ({"count": 1.5}, {"count": 3, "seed": 0.5}, {"count": 3, "seed": -1}):
        with pytest.raises(DataError, match="must be"):
            poses(**wrong)
