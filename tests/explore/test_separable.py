"""The drawings of separable convolutions and channel shuffles are to scale and say what the modules do."""

import re

import pytest
import torch
from torch import nn

from cnnlib.explore import channel_shuffle, separable_cost
from cnnlib.explore.separable import NotDrawn, separable_weights, shuffled
from cnnlib.measure import multiply_adds
from cnnlib.models import shufflenet


@pytest.mark.parametrize(("channels", "kernel"), [(8, 3), (64, 5), (512, 7)])
def test_weights_are_the_multiply_adds_of_one_pixel(channels, kernel):
    layers = (
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False),
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
    )
    counted = tuple(multiply_adds(layer, (channels, 8, 8)) // 64 for layer in layers)
    assert separable_weights(channels, kernel) == counted


@pytest.mark.parametrize(("channels", "kernel"), [(8, 3), (32, 7)])
def test_areas_have_one_scale(channels, kernel):
    html = separable_cost(channels, kernel).html
    sizes = re.findall(r'<rect x="[\d.]+" y="[\d.]+" width="([\d.]+)" height="([\d.]+)"', html)
    areas = [float(width) * float(height) for width, height in sizes]
    weights = separable_weights(channels, kernel)
    assert [area / areas[0] for area in areas] == pytest.approx([w / weights[0] for w in weights], rel=0.01)


def test_the_cost_in_words():
    assert separable_cost(128, 3).text == (
        "C = 128: a dense 3×3 convolution spends 147,456 multiply-adds on each pixel, the depthwise one 1,152 and the "
        "pointwise one 16,384, together 17,536: 8.41 times fewer."
    )
    assert "11.9 % of the dense convolution" in separable_cost(128, 3).html
    assert separable_cost(1, 1).text.endswith("together 2: 2.00 times as many.")


def test_the_shuffle_is_that_of_the_model():
    maps = torch.arange(12.0).view(1, 12, 1, 1)
    assert list(shuffled(12, 3)) == shufflenet.channel_shuffle(maps, 3).flatten().tolist()
    assert shuffled(12, 3)[:4] == (0, 4, 8, 1)


def test_lines_lead_from_each_map_to_its_place():
    html = channel_shuffle(3, 12).html
    ends = re.findall(r"M([\d.]+) 54C[\d.]+ 115 ([\d.]+) 100 \2 174", html)
    assert len(ends) == 12
    places = sorted({float(x) for x, _ in ends})
    order = {places.index(float(to)): places.index(float(x)) for x, to in ends}
    assert tuple(order[place] for place in range(12)) == shuffled(12, 3)
    straight = re.findall(r"M([\d.]+) 54C[\d.]+ 115 ([\d.]+) 100", channel_shuffle(3, 12, shuffle=False).html)
    assert all(x == to for x, to in straight)


def test_letters_say_which_group_made_a_map():
    html = channel_shuffle(2, 8).html
    letters = re.findall(r'<text x="([\d.]+)" y="195.5">(.)</text>', html)
    assert [letter for _, letter in sorted(letters, key=lambda pair: float(pair[0]))] == list("ABABABAB")


def test_the_shuffle_in_words():
    assert channel_shuffle(3, 12).text == (
        "12 maps in 3 groups of 4. With the shuffle every group of the second convolution sees maps of the groups "
        "A, B, C."
    )
    assert channel_shuffle(3, 12, shuffle=False).text.endswith("sees the maps of one group of the first.")
    assert channel_shuffle(4, 12).text.endswith("see maps of A, B, C; A, B, D; A, C, D; B, C, D.")


def test_what_cannot_be_drawn_is_refused():
    for wrong in ((0, 3), (8, 0)):
        with pytest.raises(NotDrawn, match="at least one"):
            separable_cost(*wrong)
    with pytest.raises(NotDrawn, match=r"channels must be a whole number, not 64\.0"):
        separable_cost(64.0)
    with pytest.raises(NotDrawn, match=r"groups must be a whole number, not 2\.0"):
        channel_shuffle(2.0)
    for wrong in ((5, 12), (6, 12), (0, 12), (2, 26)):
        with pytest.raises(NotDrawn, match="up to 24 maps"):
            channel_shuffle(*wrong)


def test_output_is_small_deterministic_and_follows_the_theme():
    for draw in (lambda: separable_cost(64, 5), lambda: channel_shuffle(4, 16)):
        html = draw().html
        assert html == draw().html
        assert len(html) < 6000
        assert not re.search(r"#[0-9a-f]{6}|https?://", html)
