"""Output sizes against nn.Conv2d, nn.MaxPool2d and nn.AvgPool2d."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnnlib.measure import BadArgument, DoesNotFit, conv_arithmetic, conv_output_size, layer_table, pool_output_size

ours = settings(deadline=None, max_examples=200)


def per_axis(least: int, most: int) -> st.SearchStrategy:
    number = st.integers(least, most)
    return st.one_of(number, st.tuples(number, number))


def size_or_error(function, *arguments, **named):
    try:
        return function(*arguments, **named)
    except DoesNotFit:
        return None


def torch_size(layer: nn.Module, size: tuple[int, int]):
    try:
        return tuple(layer(torch.zeros(1, 1, *size)).shape[-2:])
    except RuntimeError:
        return None


@ours
@given(st.tuples(*[st.integers(1, 24)] * 2), per_axis(1, 6), per_axis(1, 4), per_axis(0, 3), per_axis(1, 3))
def test_convolution_agrees_with_torch(size, kernel, stride, padding, dilation):
    layer = nn.Conv2d(1, 1, kernel, stride, padding, dilation)
    assert size_or_error(conv_output_size, size, kernel, stride, padding, dilation) == torch_size(layer, size)


@ours
@given(
    st.tuples(*[st.integers(1, 24)] * 2),
    st.integers(1, 6),
    st.one_of(st.none(), st.integers(1, 7)),
    st.integers(0, 3),
    st.integers(1, 3),
    st.booleans(),
)
def test_max_pooling_agrees_with_torch(size, kernel, stride, padding, dilation, ceil_mode):
    padding = min(padding, kernel // 2)
    layer = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    expected = torch_size(layer, size)
    assert size_or_error(pool_output_size, size, kernel, stride, padding, dilation, ceil_mode) == expected


@ours
@given(
    st.tuples(*[st.integers(1, 24)] * 2),
    st.tuples(*[st.integers(2, 6)] * 2),
    per_axis(1, 7),
    st.integers(0, 1),
    st.booleans(),
)
def test_average_pooling_agrees_with_torch(size, kernel, stride, padding, ceil_mode):
    layer = nn.AvgPool2d(kernel, stride, padding, ceil_mode)
    expected = torch_size(layer, size)
    assert size_or_error(pool_output_size, size, kernel, stride, padding, ceil_mode=ceil_mode) == expected


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_the_error_names_the_smallest_size_that_fits(ceil_mode):
    for geometry in [(3, 2, 0, 1), (5, 3, 2, 2), (2, 2, 1, 4), (4, 7, 0, 2)]:  # kernel, stride, padding, dilation
        sizes = range(1, 30)
        fitting = [size for size in sizes if size_or_error(pool_output_size, size, *geometry, ceil_mode)]
        for size in set(sizes) - set(fitting):
            with pytest.raises(DoesNotFit, match=f"smallest input that fits is {fitting[0]}$"):
                pool_output_size(size, *geometry, ceil_mode)


def test_the_error_of_a_convolution_has_formula_and_numbers():
    with pytest.raises(DoesNotFit) as caught:
        conv_output_size(7, kernel=5, stride=2, padding=1, dilation=3)
    assert str(caught.value) == (
        "a kernel of 5 with dilation 3 (extent 13) does not fit into an input of 7: "
        "floor((7 + 2·1 - 13) / 2) + 1 = -1; the smallest input that fits is 11"
    )
    assert conv_output_size(11, kernel=5, stride=2, padding=1, dilation=3) == 1


def test_ints_give_an_int_and_a_tuple_gives_a_tuple():
    assert conv_output_size(227, 11, 4) == 55
    assert conv_output_size(227, (11, 3), 4) == (55, 57)
    assert pool_output_size((55, 28), 3, 2) == (27, 13)


def test_integers_of_numpy_count_as_integers():
    assert conv_output_size(np.int64(32), np.int32(3)) == 30
    assert layer_table(nn.Conv2d(1, 2, 3), (1, *np.array([8, 9]))).rows[0].output_shape == (2, 6, 7)


def test_the_puzzle_of_alexnet():
    """With 224 pixels one column is never seen; 227, or a padding of 2, make it 55."""
    narrow = conv_arithmetic(224, 11, stride=4)
    assert (narrow.quotient, narrow.output, narrow.remainder, narrow.unused) == (213 / 4, 54, 1, 1)
    assert str(narrow) == "floor((224 + 2·0 - 11) / 4) + 1 = floor(53.25) + 1 = 54"
    assert (conv_arithmetic(227, 11, 4).quotient, conv_arithmetic(227, 11, 4).unused) == (54, 0)
    padded = conv_arithmetic(224, 11, 4, padding=2)
    assert (padded.padded, padded.output, padded.remainder, padded.unused) == (228, 55, 1, 0)


@ours
@given(st.integers(1, 24), st.integers(1, 6), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))
def test_unused_columns_are_those_without_a_gradient_at_the_far_end(size, kernel, stride, padding, dilation):
    try:
        arithmetic = conv_arithmetic(size, kernel, stride, padding, dilation)
    except DoesNotFit:
        return
    layer = nn.Conv1d(1, 1, kernel, stride, padding, dilation, bias=False)
    nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, size + 2 * padding, requires_grad=True)  # already padded, to see the padding's gradient too
    layer.padding = (0,)
    layer(x).sum().backward()
    seen = x.grad.flatten().nonzero().flatten()
    assert arithmetic.remainder == arithmetic.padded - 1 - int(seen.max())
    assert arithmetic.unused == max(0, arithmetic.remainder - padding)
    assert arithmetic.effective_kernel == dilation * (kernel - 1) + 1


@pytest.mark.parametrize(
    "arguments", [(0, 3), (5, 0), (5, 3, 0), (5, 3, 1, -1), (5, 3, 1, 0, 0), (5.0, 3), (5, True), ((5, 5), (3, 3, 3))]
)
def test_meaningless_arguments_are_refused(arguments):
    with pytest.raises(BadArgument):
        conv_output_size(*arguments)


def test_padding_of_a_pooling_is_limited_as_in_torch():
    with pytest.raises(BadArgument, match="more than half"):
        pool_output_size(8, 3, padding=2)
    assert torch_size(nn.MaxPool2d(3, padding=2), (8, 8)) is None
    with pytest.raises(BadArgument, match="more than half"):
        pool_output_size(9, 3, padding=2, dilation=3)  # half of the kernel, not of its extent
    assert torch_size(nn.MaxPool2d(3, padding=2, dilation=3), (9, 9)) is None
