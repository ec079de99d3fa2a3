"""The test patterns: rings of the promised fineness, and a filter that answers to its own stripes alone."""

import pytest
import torch
from torch.nn import functional as F

from cnnlib import explore
from cnnlib.explore.boxes import NothingToDraw


def test_the_rings_are_finest_at_the_middle_of_an_edge():
    row = explore.zone_plate(401, finest=4)[0, 0, 200]
    signs = row[-40:].sign()
    period = 2 * 40 / (signs[1:] != signs[:-1]).sum()
    assert period == pytest.approx(
        4 / 0.9, abs=0.2
    )  # 4 at the edge itself, 4 / 0.9 at nine tenths of the way, the middle of these columns


def test_the_rings_are_symmetric():
    rings = explore.zone_plate(51)[0, 0]
    torch.testing.assert_close(rings, rings.T)
    torch.testing.assert_close(rings, rings.flip(0))


@pytest.mark.parametrize("size", [0, 1, 5.0])
def test_rings_need_pixels(size):
    with pytest.raises(NothingToDraw, match="size must be"):
        explore.zone_plate(size)


@pytest.mark.parametrize("size", [7, 11])
def test_the_filter_answers_to_stripes_of_its_period(size):
    columns = torch.arange(64.0)

    def answer(period):
        stripes = torch.cos(2 * torch.pi * columns / period).expand(1, 1, 64, 64)
        return F.conv2d(stripes, explore.stripe_filter(size, period=4.5)).abs().max()

    assert answer(4.5) > 3 * answer(16)
    assert answer(4.5) > 2 * answer(2)


def test_the_filter_does_not_answer_to_a_plain_ground():
    answer = F.conv2d(torch.ones(1, 1, 32, 32), explore.stripe_filter(11, period=4.5))
    assert answer.abs().max() < 1e-6


def test_a_stride_of_4_shows_rings_that_a_stride_of_1_does_not():
    """What chapter 1 shows: sampled every 4 pixels, stripes of period 4.5 look like stripes of period 36."""
    rings, stripes = explore.zone_plate(227), explore.stripe_filter(7, period=4.5)
    changes = {}
    for stride in (1, 4):
        row = F.conv2d(rings, stripes, stride=stride)[0, 0]
        row = row[len(row) // 2]
        around = row[len(row) // 4 - 12 // stride : len(row) // 4 + 12 // stride].sign()
        changes[stride] = (around[1:] != around[:-1]).sum().item()
    assert changes[1] >= 3 * max(changes[4], 1)


def test_grey_spans_black_to_white():
    figure = explore.grey(torch.tensor([[2.0, 4.0], [3.0, 4.0]]), "four values")
    pixels = figure.axes[0].images[0].get_array()
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert explore.describe(figure) == "four values: 2 by 2 values in grey."


@pytest.mark.parametrize("length", [0, -1.0, float("nan")])
def test_stripes_have_a_width(length):
    with pytest.raises(NothingToDraw, match="finest must be a positive number of pixels"):
        explore.zone_plate(5, finest=length)
    with pytest.raises(NothingToDraw, match="period must be a positive number of pixels"):
        explore.stripe_filter(5, period=length)


@pytest.mark.parametrize("size", [2, 5.0])
def test_stripes_need_pixels(size):
    with pytest.raises(NothingToDraw, match="size must be"):
        explore.stripe_filter(size, period=4.5)
