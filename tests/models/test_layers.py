import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from cnnlib.errors import CnnlibError, DoesNotFit
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


def test_response_normalisation_prints_the_constants_of_the_paper():
    assert repr(layers.LocalResponseNorm(groups=2)) == (
        "LocalResponseNorm(size=5, alpha=0.0001, beta=0.75, k=2, groups=2)"
    )


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_response_normalisation_is_pytorchs_with_a_larger_alpha_bit_for_bit(maps, groups, layout):
    maps = maps.to(memory_format=layout)
    ours, theirs = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    halves = [nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)(half) for half in theirs.chunk(groups, 1)]
    outputs = layers.LocalResponseNorm(groups=groups)(ours), torch.cat(halves, 1)
    for output in outputs:
        output.sin().sum().backward()
    assert torch.equal(*outputs)
    assert torch.equal(ours.grad, theirs.grad)


def test_require_size_names_the_smallest_size():
    layers.require_size(torch.empty(1, 3, 20, 20), 20, "Net")
    with pytest.raises(layers.InputTooSmall, match="Net needs images of at least 20x20 pixels, but these are 64x19"):
        layers.require_size(torch.empty(1, 3, 64, 19), 20, "Net")
    assert issubclass(layers.InputTooSmall, DoesNotFit)  # what the functions of cnnlib.measure document
    assert issubclass(DoesNotFit, CnnlibError)


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
    ("number", "wanted"),
    [(0, "at least 1"), (-1, "at least 1"), *((odd, "a whole number") for odd in (64.0, "2", True))],
)
def test_require_whole_names_the_option(number, wanted):
    layers.require_whole(1, grid=1, width=np.int64(2))
    with pytest.raises(BadOption, match=re.escape(f"grid must be {wanted}, not {number!r}")):
        layers.require_whole(1, grid=number)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("alexnet", {"padding": -1}),
        ("alexnet-two-towers", {"padding": -1}),
        ("vgg11", {"grid": -1}),
        ("vgg11", {"grid": True}),
        ("mobilenet-v1", {"stem_stride": 0}),
        ("mobilenet-v2", {"stem_stride": 0}),
        ("efficientnet-b0", {"stem_stride": 0}),
        ("scaled-resnet", {"resolution": 0}),
        ("unipose", {"keypoints": 0}),
        ("scaled-resnet", {"resolution": 64.0}),
        ("enas-micro", {"repeats": -2}),
    ],
)
def test_numbers_that_make_no_network_are_refused_at_construction(name, options):
    ((option, number),) = options.items()
    with pytest.raises(BadOption, match=rf"^{option} must be (at least \d|a whole number), not {number}"):
        create(name, **options)


@pytest.mark.parametrize(
    "build",
    [
        lambda depths: resnet.make_stages(resnet.ResidualBlock, depths, (8, 16), 8),
        lambda depths: create("shufflenet-g3", depths=depths),
        lambda depths: create("shufflenet-v2", depths=depths),
        lambda depths: create("mobilenet-v2", stages=[(6, 16, depth, 1) for depth in depths]),
        lambda depths: create("efficientnet-b0", stages=[(6, 3, 1, 16, depth) for depth in depths]),
    ],
)
@pytest.mark.parametrize("depths", [(1, 0), (-1, 2)])
def test_a_stage_without_a_block_is_refused(build, depths):
    with pytest.raises(BadOption, match=re.escape(f"each stage has 1 or more blocks, unlike in depths {depths}")):
        build(depths)


@pytest.mark.parametrize("name", ["inception-v4", "inception-resnet-v2", "inception-resnet-v2-figures"])
def test_an_inception_has_no_negative_number_of_modules(name):
    with pytest.raises(BadOption, match=r"each stage has 0 or more blocks, unlike in depths \(-1, 7, 3\)"):
        create(name, depths=(-1, 7, 3))


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


def he(fan_in, fan_out):
    return math.sqrt(2 / fan_in)


def glorot(fan_in, fan_out):
    return math.sqrt(2 / (fan_in + fan_out))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("zfnet", lambda *_: 0.01),  # Zeiler and Fergus, section 3
        ("alexnet-cifar", lambda fan_in, _: math.sqrt(1 / fan_in)),
        ("vgg11", glorot),  # Simonyan and Zisserman, section 3.1
        ("vgg11-bn", he),
        ("googlenet-auxiliary", glorot),
        ("squeezenet-1.0", he),
        ("mobilenet-v1", he),
        ("densenet-bc-22-8", he),
    ],
)
def test_weights_start_as_the_module_says(name, rule):
    torch.manual_seed(0)
    checked = 0
    for layer_name, layer in create(name, num_classes=10).named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if layer.bias is not None:
            assert (layer.bias == 0).all(), layer_name
        window = math.prod(layer.kernel_size) if isinstance(layer, nn.Conv2d) else 1
        outputs, fan_in = layer.weight.shape[0], layer.weight[0].numel()
        expected = 0.01 if layer_name == "conv10.conv" else rule(fan_in, outputs * window)  # SqueezeNet's last layer
        tolerance = 5 / math.sqrt(2 * layer.weight.numel())
        assert layer.weight.std().item() == pytest.approx(expected, rel=tolerance), layer_name
        assert layer.weight.mean().item() == pytest.approx(0, abs=5 * expected / math.sqrt(layer.weight.numel()))
        checked += 1
    assert checked > 4


def test_the_least_factor_leaves_one_map():
    assert layers.scaled((16, 32), width=1 / 16) == (1, 2)
    with pytest.raises(BadOption, match=r"k=0\.06 leaves no map of 16; the least is 0\.0625"):
        layers.scaled((32, 16), k=0.06)
    with pytest.raises(BadOption, match="k is a factor greater than 0, not inf"):
        layers.scaled((16,), k=math.inf)


@pytest.mark.parametrize("shape", [(1, 32, 32), (2, 3072)])
def test_images_come_in_batches(shape):
    with pytest.raises(DoesNotFit, match=r"LeNet-5 takes a batch of images \(N, C, H, W\), not a tensor of shape"):
        create("lenet5")(torch.zeros(shape))
