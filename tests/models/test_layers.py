import re

import pytest
import torch
from torch import nn

from cnnlib.errors import CnnlibError
from cnnlib.models import BadOption, card, create, layers, resnet


def formula(a: torch.Tensor, k: float = 2.0, n: int = 5, alpha: float = 1e-4, beta: float = 0.75) -> torch.Tensor:
    """Krizhevsky et al. 2012, section 3.3, map by map."""
    maps = a.shape[1]
    result = torch.empty_like(a)
    for i in range(maps):
        near = a[:, max(0, i - n // 2) : min(maps - 1, i + n // 2) + 1]
        result[:, i] = a[:, i] / (k + alpha * near.square().sum(1)) ** beta
    return result


@pytest.fixture
def maps():
    return 100 * torch.rand(2, 8, 3, 4, generator=torch.Generator().manual_seed(0))


def test_response_normalisation_is_the_formula_of_the_paper(maps):
    torch.testing.assert_close(layers.LocalResponseNorm()(maps), formula(maps))
    with pytest.raises(AssertionError):  # PyTorch's own, given the paper's constants, is another function
        torch.testing.assert_close(nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)(maps), formula(maps))


def test_response_normalisation_takes_other_constants(maps):
    ours = layers.LocalResponseNorm(size=3, alpha=2e-3, beta=0.5, k=1.0)
    torch.testing.assert_close(ours(maps), formula(maps, n=3, alpha=2e-3, beta=0.5, k=1.0))


def test_groups_are_normalised_by_themselves(maps):
    ours = layers.LocalResponseNorm(groups=2)(maps)
    torch.testing.assert_close(ours, torch.cat([formula(half) for half in maps.chunk(2, 1)], 1))
    assert not torch.allclose(ours, formula(maps))


def test_require_size_names_the_smallest_size():
    layers.require_size(torch.empty(1, 3, 20, 20), 20, "Net")
    with pytest.raises(layers.InputTooSmall, match="Net needs images of at least 20x20 pixels, but these are 64x19"):
        layers.require_size(torch.empty(1, 3, 64, 19), 20, "Net")
    assert issubclass(layers.InputTooSmall, CnnlibError)


@pytest.mark.parametrize(("name", "side", "smallest"), [("lenet5", 28, 32), ("alexnet-cifar", 14, 15)])
def test_advice_for_small_images_fits_small_networks_too(name, side, smallest):
    net = create(name)
    assert net.min_size == smallest
    with pytest.raises(layers.InputTooSmall, match=f"{side}; pad or enlarge them, or take .* a smaller min_size$"):
        net(torch.empty(1, card(name).input_size[0], side, side))


def test_require_size_stays_in_the_traced_graph():
    class Net(nn.Module):
        def forward(self, x):
            layers.require_size(x, 20, "Net")
            return x + 1

    graph = torch.fx.symbolic_trace(Net())
    with pytest.raises(layers.InputTooSmall):
        graph(torch.empty(1, 3, 19, 19))


@pytest.mark.parametrize(
    "build",
    [
        lambda depths: resnet.make_stages(resnet.ResidualBlock, depths, (8, 16), 8),
        lambda depths: create("shufflenet-g3", depths=depths),
        lambda depths: create("shufflenet-v2", depths=depths),
    ],
)
@pytest.mark.parametrize("depths", [(1, 0), (-1, 2)])
def test_a_stage_without_a_block_is_refused(build, depths):
    with pytest.raises(BadOption, match=re.escape(f"each stage has at least 1 block, unlike in depths {depths}")):
        build(depths)


def test_units_per_stage_are_those_of_the_depth():
    assert [layers.units_per_stage(depth, 6) for depth in (8, 20, 110)] == [1, 3, 18]
    assert layers.units_per_stage(40, 6, others=4) == 6


@pytest.mark.parametrize("depth", [-2, 4, 12, 39])
def test_a_depth_that_no_units_give_is_explained(depth):
    with pytest.raises(BadOption, match=rf"have 6n \+ 4 layers \(10, 16, 22, \.\.\.\), not {depth}"):
        layers.units_per_stage(depth, 6, others=4)


def test_classifier_drops_hidden_units_only_while_training():
    head = layers.classifier(12, 64, 10, dropout=0.5, activation=nn.Tanh)
    x = torch.randn(4, 12)
    assert head(x).shape == (4, 10)
    assert not torch.equal(head(x), head(x))
    head.eval()
    torch.testing.assert_close(head(x), head.fc8(head.fc7(head.fc6(x).tanh()).tanh()))


def test_init_weights_draws_weights_and_clears_biases():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, bias=False), nn.Linear(4, 2))
    layers.init_weights(net, nn.init.ones_)
    for layer in (net[0], net[2], net[3]):
        assert (layer.weight == 1).all()
    assert (net[0].bias == 0).all()
    assert (net[3].bias == 0).all()
