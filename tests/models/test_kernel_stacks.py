import pytest
import torch

from cnnlib.measure import count_parameters, receptive_field
from cnnlib.models import create
from cnnlib.models.kernel_stacks import one_convolution, three_convolutions, three_linear_convolutions

NAMES = ("one-7x7", "three-3x3", "three-3x3-linear")


@pytest.mark.parametrize("stage", [one_convolution, three_convolutions, three_linear_convolutions])
def test_every_stage_has_the_same_field(stage):
    assert receptive_field(stage(4, 6), (4, 20, 20)).rows[-1].size == 7


def test_parameters_are_alike():
    counts = [count_parameters(create(name)) for name in NAMES]
    assert max(counts) < 1.01 * min(counts)


def test_27_against_49_parameters_between_as_many_maps():
    seven, three = (count_parameters(stage(8, 8)) for stage in (one_convolution, three_convolutions))
    norms = 2 * 8
    assert (seven - norms, three - 3 * norms) == (49 * 8 * 8, 27 * 8 * 8)


def test_without_relu_three_convolutions_are_one_affine_map_and_with_it_they_are_not(randomise):
    x, y = torch.randn(2, 1, 4, 15, 15, generator=torch.Generator().manual_seed(0))
    for stage, is_affine in ((three_linear_convolutions, True), (three_convolutions, False)):
        net = stage(4, 6).eval()
        randomise(net)
        f = net[:-1]  # but for the last ReLU
        with torch.no_grad():
            same = torch.allclose(f(x + y) + f(torch.zeros_like(x)), f(x) + f(y), rtol=1e-4, atol=1e-4)
        assert same == is_affine


def test_the_two_stacks_differ_in_their_relus_only(copy_weights, randomise):
    relu, linear = create("three-3x3"), create("three-3x3-linear")
    randomise(relu)
    copy_weights(relu, linear)
    count = [sum(isinstance(layer, torch.nn.ReLU) for layer in net.modules()) for net in (relu, linear)]
    assert count == [9, 3]


def test_fits_a_few_images(overfits):
    torch.manual_seed(0)
    overfits(create("three-3x3"), (3, 16, 16), lr=0.02, steps=20)


def test_compiles(compiles):
    compiles(create("three-3x3"), (3, 8, 8))
