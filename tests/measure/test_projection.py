"""What a projection keeps, against cases that can be computed by hand."""

import copy

import pytest
import torch
from torch import nn

from cnnlib.measure import BadArgument, bottleneck_projections, projection
from cnnlib.models import create


def maps_with_variances(*variances):
    """Uncorrelated maps of exactly these variances."""
    noise = torch.randn(4, len(variances), 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat = noise.movedim(1, -1).flatten(0, -2)
    flat = flat - flat.mean(0)
    white, _ = torch.linalg.qr(flat)
    scaled = white * torch.tensor(variances, dtype=torch.float64).sqrt() * len(flat) ** 0.5
    return scaled.view(4, 8, 8, -1).movedim(-1, 1)


def test_choosing_some_uncorrelated_maps_keeps_their_variance():
    maps = maps_with_variances(6.0, 3.0, 1.0)
    kept = projection(maps, torch.tensor([[0.0, 1.0, 0.0]]))
    assert (kept.maps_in, kept.maps_out) == (3, 1)
    assert kept.learned == pytest.approx(0.3)
    assert kept.best == pytest.approx(0.6)
    assert 0 < kept.random < kept.best


def test_a_sum_of_two_maps_keeps_half_of_each():
    assert projection(maps_with_variances(1.0, 1.0), torch.tensor([[1.0, 1.0]])).learned == pytest.approx(0.5)


def test_mixing_scaling_and_repeating_the_outputs_changes_nothing():
    maps = maps_with_variances(6.0, 3.0, 1.0, 1.0)
    rows = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    mixed = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 1.0]]) @ rows  # three rows of rank two
    assert projection(maps, mixed).learned == pytest.approx(projection(maps, rows).learned)


def test_principal_components_and_full_rank():
    maps = maps_with_variances(6.0, 3.0, 1.0)
    mixing = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]
    turned = torch.einsum("dc,nchw->ndhw", mixing, maps) + 5
    best = projection(turned, mixing.T[:2])  # the two directions of the largest variance
    assert best.learned == pytest.approx(best.best) == pytest.approx(0.9)
    assert projection(turned, torch.eye(3)).learned == pytest.approx(1)


def test_learned_share_is_that_of_least_squares():
    noise = torch.Generator().manual_seed(3)
    maps = torch.randn(2, 6, 7, 7, generator=noise) @ torch.randn(7, 7, generator=noise)
    conv = nn.Conv2d(6, 2, 1)
    with torch.no_grad():
        x, z = (values.movedim(1, -1).flatten(0, -2) for values in (maps, conv(maps)))
    x, z = x - x.mean(0), z - z.mean(0)
    left = x - z @ torch.linalg.lstsq(z, x).solution
    expected = 1 - (left.square().sum() / x.square().sum()).item()
    assert projection(maps, conv.weight).learned == pytest.approx(expected, abs=1e-5)


def test_bottlenecks_of_a_network_are_found_and_read_what_they_read():
    net = create("googlenet-cifar", width=0.0625)
    before = copy.deepcopy(net.state_dict())
    images = torch.randn(2, 3, 16, 16)
    found = bottleneck_projections(net, images)
    assert len(found) == 36  # four 1x1 convolutions a module, each of which makes fewer maps than it reads
    assert next(iter(found)) == "to_4a.inception3a.branch1.conv"
    with torch.no_grad():
        pooled = net.eval().to_4a.inception3a.branch4[0](net.stem(images))
    name = "to_4a.inception3a.branch4.1.conv"
    assert found[name].learned == pytest.approx(projection(pooled, net.get_submodule(name).weight).learned)
    assert all(kept.learned <= kept.best + 1e-9 for kept in found.values())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))


def test_random_directions_point_anywhere_and_are_averaged():
    """The common signal of all maps has most of the variance, and directions of positive numbers would favour it."""
    variances = torch.tensor([6.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    turn = torch.linalg.qr(torch.cat([torch.ones(4, 1), torch.eye(4)[:, :3]], 1).double())[0]
    maps = torch.einsum("dc,nchw->ndhw", turn, maps_with_variances(*variances.tolist()))
    rows = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    kept = (rows**2 @ variances**2) / (rows**2 @ variances) / variances.sum()
    assert projection(maps, torch.eye(4)[:1], draws=200).random == pytest.approx(kept.mean().item(), abs=0.04)


def test_other_convolutions_are_no_bottlenecks():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1, groups=2))
    assert bottleneck_projections(net, torch.randn(1, 3, 8, 8)) == {}
    net.append(nn.Conv2d(2, 1, 1))
    assert list(bottleneck_projections(net, torch.randn(1, 3, 8, 8))) == ["4"]


def test_a_strided_convolution_is_judged_by_the_pixels_that_it_reads():
    """Every second row and third column has the variances 6 and 2, all others much of the second map."""
    read = maps_with_variances(6.0, 2.0)
    maps = 10 * torch.randn(4, 2, 16, 24, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    maps[:, 0] = 0
    maps[:, :, ::2, ::3] = read
    conv = nn.Conv2d(2, 1, 1, stride=(2, 3)).double()
    with torch.no_grad():
        conv.weight[:] = torch.tensor([1.0, 0.0])[:, None, None]
    (kept,) = bottleneck_projections(conv, maps).values()
    assert (kept.learned, kept.best) == (pytest.approx(0.75), pytest.approx(0.75))
    assert bottleneck_projections(conv, maps[:, :, :2, :3]) == {}  # reads one pixel of each image


def test_a_convolution_of_single_pixels_is_a_linear_layer_and_no_bottleneck():
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 1, 1))
    for count in (1, 2):
        assert list(bottleneck_projections(net, torch.randn(count, 3, 8, 8))) == ["0"]


def test_what_cannot_be_projected():
    maps = torch.randn(1, 4, 3, 3)
    for shape in ((2, 4, 3, 3), (4,), (2, 1, 2, 2), (2, 3), (2, 4, 1)):
        with pytest.raises(BadArgument, match="of a 1x1 convolution"):
            projection(maps, torch.ones(shape))
    for draws in (0, 1.5):
        with pytest.raises(BadArgument, match=r"draws must be (at least 1|a whole number), not "):
            projection(maps, torch.ones(2, 4), draws=draws)
    with pytest.raises(BadArgument, match="projection needs two tensors, not a NoneType and"):
        projection(None, torch.ones(2, 4))
    with pytest.raises(BadArgument, match="of a 1x1 convolution"):  # of no map: all eigenvalues would be its best
        projection(maps, torch.ones(0, 4))
    with pytest.raises(BadArgument, match="constant"):
        projection(torch.ones(1, 4, 3, 3), torch.ones(2, 4))
    with pytest.raises(BadArgument, match="constant"):
        bottleneck_projections(nn.Conv2d(4, 2, 1), torch.ones(1, 4, 3, 3))


def test_values_that_are_not_finite_are_not_called_constant():
    maps, weight = torch.randn(2, 4, 3, 3), torch.ones(2, 4)
    for wrong in ((maps * torch.nan, weight), (maps, weight * torch.nan), (maps[:0], weight)):
        with pytest.raises(BadArgument, match="at least one pixel, and finite values"):
            projection(*wrong)
    with pytest.raises(BadArgument, match="finite values"):
        bottleneck_projections(nn.Conv2d(4, 2, 1), maps * torch.nan)
