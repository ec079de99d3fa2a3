import pytest
import torch
from torch import nn

from cnnlib.measure import multiply_adds
from cnnlib.models import create
from cnnlib.models.scaled_resnet import Enlarge


def cost(**options):
    return multiply_adds(create("scaled-resnet", **options), (3, 32, 32))


def test_at_the_usual_width_it_is_the_cifar_resnet(copy_weights, randomise, difference):
    usual, scaled = create("resnet20"), create("scaled-resnet", widths=(16, 32, 64), depths=(3, 3, 3))
    randomise(usual)
    copy_weights(usual, scaled)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert difference(usual.eval()(x), scaled.eval()(x)) < 1e-6


def test_cost_grows_with_the_square_of_width_and_resolution_and_with_depth():
    base = cost()
    assert cost(widths=(16, 32, 64)) == pytest.approx(4 * base, rel=0.02)
    assert cost(resolution=64) == pytest.approx(4 * base, rel=0.001)
    assert cost(depths=(4, 4, 4)) == pytest.approx(2 * base, rel=0.1)


def test_images_are_enlarged_once_and_bilinearly():
    net = create("scaled-resnet", resolution=64)
    x = torch.zeros(1, 3, 32, 32)
    x[..., 16:, :] = 1
    large = net.enlarge(x)
    assert large.shape == (1, 3, 64, 64)
    assert large[0, 0, 28:36, 7].tolist() == [0, 0, 0, 0.25, 0.75, 1, 1, 1]
    assert [type(layer) for layer in net.modules()].count(Enlarge) == 1
    assert "size=64" in repr(net)
    assert isinstance(create("scaled-resnet").enlarge, nn.Identity)


def test_fits_a_few_images(overfits):
    torch.manual_seed(0)
    overfits(create("scaled-resnet", resolution=20), (3, 16, 16), lr=0.05, steps=40)


def test_compiles(compiles):
    compiles(create("scaled-resnet", resolution=12), (3, 8, 8))
