"""Effective receptive fields against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from cnnlib.measure import (
    BadArgument,
    DoesNotFit,
    UnknownLayer,
    effective_receptive_field,
    effective_size,
    effective_spread,
)


def box_filters(layers: int, kernel: int = 3) -> nn.Sequential:
    """A stack of averaging filters."""
    net = nn.Sequential(*[nn.Conv2d(1, 1, kernel, padding=kernel // 2, bias=False) for _ in range(layers)])
    for conv in net:
        nn.init.constant_(conv.weight, 1 / kernel**2)
    return net


def test_one_filter_is_seen_as_it_is():
    net = box_filters(1)
    with torch.no_grad():
        net[0].weight[0, 0] = torch.tensor([[0.0, 1.0, 0.0], [2.0, -4.0, 2.0], [0.0, 0.0, 1.0]])
    field = effective_receptive_field(net, (1, 9, 9))
    assert field.shape == (9, 9)
    assert field.sum() == pytest.approx(1)
    np.testing.assert_allclose(field[3:6, 3:6] * 10, [[0, 1, 0], [2, 4, 2], [0, 0, 1]])
    assert np.count_nonzero(field) == 5


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(BadArgument, match=r"the shape of one image.* not 32"):
        effective_receptive_field(box_filters(1), 32)
    with pytest.raises(DoesNotFit, match="Sequential does not take an input of 3x9x9"):
        effective_receptive_field(box_filters(1), (3, 9, 9))


def test_input_channels_of_opposite_sign_do_not_cancel():
    net = nn.Sequential(nn.Conv2d(2, 1, 1, bias=False))
    with torch.no_grad():
        net[0].weight[:] = torch.tensor([1.0, -1.0])[:, None, None]
    assert effective_receptive_field(net, (2, 5, 5))[2, 2] == 1


def test_the_unit_is_that_of_all_output_channels():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, bias=False))
    nn.init.zeros_(net[0].weight)
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = 1  # looks up and to the left
        net[0].weight[1, 0, 2, 1] = 3  # looks down
    field = effective_receptive_field(net, (1, 5, 5))
    assert (field[1, 1], field[3, 2]) == (0.25, 0.75)


@pytest.mark.parametrize("layers", [1, 2, 5, 10])
def test_a_stack_of_averages_spreads_with_the_square_root_of_its_depth(layers):
    """Each 3x3 average adds the variance 2/3 of the uniform distribution on -1, 0, 1 (Luo et al. 2016, section 2)."""
    spread = effective_spread(effective_receptive_field(box_filters(layers), (1, 41, 41), samples=1))
    assert spread == pytest.approx((math.sqrt(2 / 3 * layers),) * 2)


def test_height_and_width_are_told_apart():
    net = nn.Sequential(nn.Conv2d(1, 1, (1, 5), padding=(0, 2), bias=False))
    nn.init.ones_(net[0].weight)
    field = effective_receptive_field(net, (1, 11, 15), samples=1)
    assert np.argwhere(field)[[0, -1]].tolist() == [[5, 5], [5, 9]]
    assert effective_spread(field) == pytest.approx((0, math.sqrt(2)))


def test_size_counts_the_pixels_above_a_share_of_the_peak():
    field = np.array([[0.0, 0.04, 0.0], [0.05, 1.0, 0.5], [0.0, 0.046, 0.0]])
    assert effective_size(field) == 2  # 0.05, 1, 0.5 and 0.046 are above 4.55 %
    assert effective_size(field, threshold=0.5) == 1
    assert effective_size(field / 100) == 2


def test_a_layer_is_taken_by_name_and_untouched_by_what_follows():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 5, padding=2), nn.Flatten()
    )
    with torch.no_grad():
        net[0].weight.fill_(1)
        net[0].bias.fill_(-1e6)  # the ReLU lets nothing through
    field = effective_receptive_field(net, (1, 16, 16), layer="0")
    assert np.count_nonzero(field) == 9
    with pytest.raises(BadArgument, match="zero for every image"):
        effective_receptive_field(net, (1, 16, 16))


def test_without_a_name_it_is_the_last_map():
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2)
    )
    named = effective_receptive_field(net, (1, 16, 16), layer="0")
    np.testing.assert_array_equal(effective_receptive_field(net, (1, 16, 16)), named)
    assert np.count_nonzero(named) == 25
    assert np.count_nonzero(effective_receptive_field(net, (1, 16, 16), layer="0.0")) == 9


def test_the_first_layer_may_work_in_place():
    images = torch.randn(2, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    nets = (nn.Sequential(nn.ReLU(inplace), box_filters(1)) for inplace in (True, False))
    in_place, plain = (effective_receptive_field(net, images) for net in nets)
    np.testing.assert_array_equal(in_place, plain)
    assert torch.equal(images, before)


def test_a_module_that_is_called_twice_is_taken_at_its_last_call():
    conv = nn.Conv2d(1, 1, 3, padding=1)
    assert np.count_nonzero(effective_receptive_field(nn.Sequential(conv, conv), (1, 16, 16), layer="0")) == 25


def test_the_mean_is_over_all_images():
    """Each image decides at which pixel the maximum is: together they show the whole window."""
    net = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1))
    images = torch.zeros(9, 1, 9, 9)
    for k in range(9):
        images[k, 0, 3 + k // 3, 3 + k % 3] = 1
    field = effective_receptive_field(net, images)
    np.testing.assert_allclose(field[3:6, 3:6], 1 / 9)
    assert np.count_nonzero(effective_receptive_field(net, images[:1])) == 1


def test_noise_depends_on_the_seed_only():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    first, again, other = (effective_receptive_field(net, (3, 12, 12), samples=3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_get_the_type_of_the_weights():
    assert np.count_nonzero(effective_receptive_field(box_filters(1).double(), (1, 9, 9))) == 9


def test_a_layer_that_is_cut_off_from_the_images_sees_none():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)

        def forward(self, x):
            return self.second(self.first(x).detach())

    net = Cut()
    assert np.count_nonzero(effective_receptive_field(net, (1, 9, 9), layer="first")) == 9
    with pytest.raises(BadArgument, match="zero for every image"):
        effective_receptive_field(net, (1, 9, 9), layer="second")


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(1), nn.Dropout()])
def test_it_is_measured_in_evaluation_mode(layer):
    """In training mode the batch's statistics reach over all pixels, and dropout leaves some of the nine out."""
    filters = box_filters(1)
    expected = effective_receptive_field(filters, (1, 9, 9))
    field = effective_receptive_field(nn.Sequential(layer, filters).train(), (1, 9, 9), layer="1")
    np.testing.assert_allclose(field, expected, atol=1e-6)


def test_errors():
    with pytest.raises(UnknownLayer, match=r"^no layer 'conv'; here no layer has a name$"):
        effective_receptive_field(nn.Conv2d(3, 8, 3), (3, 8, 8), layer="conv")
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())
    with pytest.raises(UnknownLayer, match="'0', '1'"):
        effective_receptive_field(net, (3, 8, 8), layer="conv1")
    with pytest.raises(BadArgument, match="'1' puts out no maps"):
        effective_receptive_field(net, (3, 8, 8), layer="1")
    with pytest.raises(BadArgument, match=r"\(N, C, H, W\) of at least one image, not torch.float32 \(3, 8, 8\)"):
        effective_receptive_field(net, torch.zeros(3, 8, 8))


@pytest.mark.parametrize(("samples", "said"), [(0, "at least 1"), (-1, "at least 1"), (1.5, "a whole number")])
def test_there_must_be_a_number_of_noise_images(samples, said):
    with pytest.raises(BadArgument, match=f"samples must be {said}, not {samples}"):
        effective_receptive_field(nn.Conv2d(3, 4, 3), (3, 8, 8), samples=samples)
