"""The drawings of width and cardinality: to scale, and with the counts of cnnlib's own networks."""

import re

import pytest
import torch
from torch import nn

from cnnlib.explore import path_matrices, wide_network
from cnnlib.explore.width import NotDrawn, block_weights, wide_cost
from cnnlib.models import BadOption, card


def bars(html):
    """Left edge and width of each bar."""
    return [
        tuple(map(float, m)) for m in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="4.5"', html)
    ]


@pytest.mark.parametrize("name", ["wrn-28-10", "wrn-40-1", "wrn-16-8"])
def test_networks_cost_what_their_cards_say(name):
    depth, k = map(int, name.split("-")[1:])
    cost, known = wide_cost(depth, k), card(name)
    assert (cost.parameters, cost.multiply_adds) == (known.parameters, known.multiply_adds)


def test_a_bar_for_each_convolution_as_long_as_it_has_maps():
    drawn = bars(wide_network(16, 4).html)
    widths = [round(width / 0.42) for _, width in drawn]
    assert widths == [16, *4 * [64], *4 * [128], *4 * [256]]
    assert {round(left + width / 2) for left, width in drawn} == {round(drawn[0][0] + drawn[0][1] / 2)}


def test_the_network_in_words():
    text = wide_network(28, 10).text
    assert text.startswith("WRN-28-10: 25 convolutions of 3×3 one after another")
    assert "8 each with 160, 320 and 640 maps. 36.5M parameters, 5.24G multiply-adds." in text
    assert "3×3 conv, 160" in wide_network(28, 10).html


@pytest.mark.parametrize(("cardinality", "width"), [(1, 64), (32, 4), (3, 7)])
def test_weights_are_those_of_dense_convolutions_side_by_side(cardinality, width):
    path = nn.Conv2d(256, width, 1), nn.Conv2d(width, width, 3), nn.Conv2d(width, 256, 1)
    assert block_weights(cardinality, width) == tuple(cardinality * conv.weight.numel() for conv in path)


def test_a_square_on_the_diagonal_for_each_path():
    drawn = path_matrices(8, 14).html
    step, scale = 14 * 200 / 256, 200 / 256
    squares = re.search(r'<path d="([^"]+)"', drawn)[1].split("M")[1:]
    corners = [tuple(map(float, square.split("h")[0].split())) for square in squares]
    assert corners == [pytest.approx((i * step, i * step), abs=0.06) for i in range(1, 8)]
    frames = re.findall(r'width="([\d.]+)" height="([\d.]+)" style="fill:none', drawn)
    inner, maps = 112 * scale, 256 * scale
    assert [tuple(map(float, frame)) for frame in frames] == [
        pytest.approx(size, abs=0.06) for size in ((maps, inner), (inner, inner), (inner, maps))
    ]


def test_wide_blocks_are_drawn_smaller():
    sides = re.findall(r'width="([\d.]+)" height="([\d.]+)" style="fill:none', path_matrices(32, 64).html)
    assert max(float(side) for frame in sides for side in frame) == 200


def test_the_block_in_words():
    assert path_matrices(32, 4).text.startswith(
        "32 paths of 4 maps: 32,768 + 4,608 + 32,768 = 70,144 weights, 1.01 times"
    )
    assert "220M multiply-adds on maps of 56×56" in path_matrices(32, 4).text
    assert "1.00 times" in path_matrices(1, 64).text
    assert "diagonal" not in path_matrices(1, 64).text
    assert "<path" not in path_matrices(1, 64).html


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(BadOption, match="6n"):
        wide_network(20, 1)
    for k in (13, 1 / 17, 0, -1):
        with pytest.raises(NotDrawn, match="k goes from 1/16 to 12"):
            wide_network(16, k)
    with pytest.raises(NotDrawn, match="a network '8' times as wide"):
        wide_network(16, "8")
    with pytest.raises(NotDrawn, match=r"depth must be a whole number, not 16\.0"):
        wide_network(16.0, 8)
    with pytest.raises(NotDrawn, match=r"width must be a whole number, not 4\.0"):
        path_matrices(32, 4.0)
    with pytest.raises(NotDrawn, match="at least one path"):
        path_matrices(0, 4)


def test_output_is_small_deterministic_and_follows_the_theme():
    for draw, setting in ((wide_network, (40, 10)), (path_matrices, (32, 64))):
        html = draw(*setting).html
        assert html == draw(*setting).html
        assert len(html) < 6000
        assert not re.search(r"#[0-9a-f]{6}|https?://", html)
    assert torch.get_default_device().type == "cpu"


def test_matrices_of_too_many_paths_are_refused():
    with pytest.raises(NotDrawn, match="1000 paths of 1000 maps are 1,000,000 maps, and up to 4,096 can be drawn"):
        path_matrices(1000, 1000)
