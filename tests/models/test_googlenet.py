"""GoogLeNet against torchvision, which has no paper form: that one is reached from torchvision's by proven steps."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
import torchvision.models as tv
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval
from torchvision.models.googlenet import BasicConv2d

from cnnlib.models import InputTooSmall, card, create
from cnnlib.models.googlenet import (
    GoogLeNet,
    Inception,
    NaiveInception,
    TorchvisionHead,
    WithAuxiliary,
    conv_bn_relu,
    googlenet,
    googlenet_cifar,
    googlenet_cifar_naive,
    googlenet_torchvision,
    torchvision_stem,
)


def torchvision_googlenet(num_classes: int = 10) -> tv.GoogLeNet:
    return tv.GoogLeNet(num_classes, aux_logits=True, init_weights=False)


def without_dropout(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net


# The modules of the lecture: 28x28x256 in, 128 filters 1x1, 192 filters 3x3, 96 filters 5x5, bottlenecks of 64.


def test_naive_module_of_the_lecture(multiply_adds):
    with torch.device("meta"):
        module = NaiveInception(256, 128, 192, 96)
    assert module(torch.empty(1, 256, 28, 28, device="meta")).shape == (1, 672, 28, 28)
    assert module.out_channels == 128 + 192 + 96 + 256
    assert multiply_adds(module, (256, 28, 28)) == 854_196_224


def test_bottleneck_module_of_the_lecture(multiply_adds):
    with torch.device("meta"):
        module = Inception(256, 128, 64, 192, 64, 96, 64)
    assert module(torch.empty(1, 256, 28, 28, device="meta")).shape == (1, 480, 28, 28)
    assert module.out_channels == 128 + 192 + 96 + 64
    # The six products that the lecture writes down add up to 271M. Its 358M has the 3x3 convolution in it twice.
    assert multiply_adds(module, (256, 28, 28)) == 271_351_808
    assert 271_351_808 + 28 * 28 * 192 * 3 * 3 * 64 == 358_055_936


def test_naive_module_is_the_other_with_identities_for_bottlenecks(randomise, difference):
    naive = NaiveInception(6, 4, 5, 3).eval()
    module = Inception(6, 4, 6, 5, 6, 3, 6).eval()
    randomise(naive)
    for bottleneck in (module.branch2[0], module.branch3[0], module.branch4[1]):
        nn.init.dirac_(bottleneck.conv.weight)
        nn.init.zeros_(bottleneck.conv.bias)
    module.branch1.load_state_dict(naive.branch1.state_dict())
    module.branch2[1].load_state_dict(naive.branch2.state_dict())
    module.branch3[1].load_state_dict(naive.branch3.state_dict())
    x = torch.rand(2, 6, 9, 9)  # not negative, as all maps are that come out of a ReLU
    with torch.no_grad():
        assert difference(module(x), naive(x)) < 1e-6


def test_1x1_convolution_is_a_linear_layer_at_each_pixel(difference):
    conv = nn.Conv2d(64, 32, 1)
    x = torch.randn(2, 64, 7, 7)
    with torch.no_grad():
        at_each_pixel = F.linear(x.movedim(1, -1), conv.weight.flatten(1), conv.bias).movedim(-1, 1)
        assert difference(at_each_pixel, conv(x)) < 1e-6


# The net


def test_maps_are_those_of_table_1():
    with torch.device("meta"):
        net = googlenet()
    shapes = {}
    for name, module in net.named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: shapes.update({name: tuple(output.shape[1:])}))
    net(torch.empty(1, 3, 224, 224, device="meta"))
    expected = {
        "stem.conv1": (64, 112, 112),
        "stem.pool1": (64, 56, 56),
        "stem.conv2": (192, 56, 56),
        "stem.pool2": (192, 28, 28),
        "to_4a.inception3a": (256, 28, 28),
        "to_4a.inception3b": (480, 28, 28),
        "to_4a.pool3": (480, 14, 14),
        "to_4a.inception4a": (512, 14, 14),
        "to_4d.inception4b": (512, 14, 14),
        "to_4d.inception4c": (512, 14, 14),
        "to_4d.inception4d": (528, 14, 14),
        "to_5b.inception4e": (832, 14, 14),
        "to_5b.pool4": (832, 7, 7),
        "to_5b.inception5a": (832, 7, 7),
        "to_5b.inception5b": (1024, 7, 7),
        "pool": (1024, 1, 1),
    }
    assert {name: shapes[name] for name in expected} == expected


def test_equals_torchvision(same_logits):
    same_logits(googlenet_torchvision(10, auxiliary=True), torchvision_googlenet(), (3, 64, 80))


def test_equals_torchvision_in_training(randomise, copy_weights, difference):
    ours, oracle = without_dropout(googlenet_torchvision(10, auxiliary=True)), without_dropout(torchvision_googlenet())
    randomise(oracle)
    copy_weights(oracle, ours)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits, (early, late) = ours.train()(x)
        theirs = oracle.train()(x)
    assert difference(logits, theirs.logits) < 1e-5
    assert difference(early, theirs.aux_logits1) < 1e-5
    assert difference(late, theirs.aux_logits2) < 1e-5
    for (name, our_tensor), their_tensor in zip(ours.state_dict().items(), oracle.state_dict().values(), strict=True):
        torch.testing.assert_close(our_tensor, their_tensor, rtol=1e-4, atol=1e-6, msg=name)


def test_card_says_what_torchvision_measured():
    weights = tv.GoogLeNet_Weights.IMAGENET1K_V1
    ours = card("googlenet-torchvision")
    assert ours.parameters == weights.meta["num_params"]
    assert round(ours.multiply_adds / 1e9, 3) == weights.meta["_ops"]
    accuracies = weights.meta["_metrics"]["ImageNet-1K"].values()
    assert [error.value for error in ours.published] == pytest.approx([100 - a for a in accuracies], abs=1e-6)


def with_true_5x5(oracle: tv.GoogLeNet) -> dict[str, torch.Tensor]:
    """torchvision's weights with zeros around its 3x3 kernels where the paper has 5x5."""
    weights = oracle.state_dict()
    for name, tensor in weights.items():
        if "branch3.1.conv.weight" in name:
            weights[name] = F.pad(tensor, (1, 1, 1, 1))
    return weights


def test_true_5x5_branch_contains_torchvisions(randomise, difference):
    oracle = torchvision_googlenet().eval()
    randomise(oracle)
    module, head = partial(Inception, conv=conv_bn_relu), partial(TorchvisionHead, num_classes=10)
    ours = GoogLeNet(torchvision_stem(), 192, module, head, 10, pool4=2)
    ours.load_state_dict(dict(zip(ours.state_dict(), with_true_5x5(oracle).values(), strict=True)))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert difference(ours.eval()(x), oracle(x)) < 1e-5
        nn.init.ones_(ours.to_4a.inception3a.branch3[1].conv.weight)
        assert difference(ours(x), oracle(x)) > 1e-3  # and the outer ring counts


def test_paper_net_is_torchvisions_but_for_what_is_documented(randomise, difference):
    """Fold the normalisation of torchvision's net into biases; put its 3x3 kernels into 5x5 ones; take the response
    normalisation out of ours; pool by 2x2 before 5a. Nothing else differs, heads apart."""
    oracle = torchvision_googlenet().eval()
    randomise(oracle)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = oracle(x)
    folded = copy.deepcopy(oracle)
    for module in folded.modules():
        if isinstance(module, BasicConv2d):
            module.conv, module.bn = fuse_conv_bn_eval(module.conv, module.bn), nn.Identity()
    folded.aux1 = folded.aux2 = None
    ours = googlenet(10).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), with_true_5x5(folded).values(), strict=True)))
    with torch.no_grad():
        assert difference(ours(x), expected) > 1e-3
        ours.stem.norm1 = ours.stem.norm2 = nn.Identity()
        ours.to_5b.pool4.kernel_size = 2
        assert difference(ours(x), expected) < 1e-5


def test_response_normalisation_stands_where_figure_3_has_it():
    layers = list(googlenet(10).stem._modules)
    assert layers == ["conv1", "pool1", "norm1", "reduce2", "conv2", "norm2", "pool2"]


def test_constants_of_the_paper():
    """Those of AlexNet's response normalisation as Caffe has it."""
    net = create("googlenet-auxiliary")
    norms = [layer for layer in net.modules() if isinstance(layer, nn.LocalResponseNorm)]
    assert [(norm.size, norm.alpha, norm.beta, norm.k) for norm in norms] == 2 * [(5, 1e-4, 0.75, 1)]


def test_22_layers_have_weights():
    with torch.device("meta"):
        net = googlenet()
    one_branch = [name for name, _ in net.named_modules() if "branch" not in name or "branch2" in name]
    with_weights = [name for name in one_branch if isinstance(net.get_submodule(name), nn.Conv2d | nn.Linear)]
    assert len(with_weights) == 22


# The auxiliary heads


def test_heads_change_nothing_in_evaluation(randomise):
    with_heads = googlenet_cifar(auxiliary=True, width=0.125).eval()
    without = googlenet_cifar(width=0.125).eval()
    randomise(with_heads)
    shared = {name: tensor for name, tensor in with_heads.state_dict().items() if not name.startswith("heads.")}
    without.load_state_dict(shared)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(with_heads(x), without(x))


@pytest.mark.parametrize("name", ["googlenet", "googlenet-cifar"])
def test_heads_read_4x4_maps_of_4a_and_4d(name):
    with torch.device("meta"):
        net = create(name, auxiliary=True).train()
    pooled = []
    for head in net.heads:
        head.pool.register_forward_hook(lambda _, __, output: pooled.append(tuple(output.shape[1:])))
    output = net(torch.empty(2, *card(name).input_size, device="meta"))
    assert isinstance(output, WithAuxiliary)
    assert [logits.shape for logits in (output.logits, *output.auxiliary)] == [(2, net.fc.out_features)] * 3
    assert pooled == [(512, 4, 4), (528, 4, 4)]
    assert net.auxiliary_weight == 0.3
    (output.logits + sum(output.auxiliary)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_heads_send_gradient_to_the_layers_before_them():
    net = googlenet_cifar(auxiliary=True, width=0.125).train()
    early, _ = net(torch.randn(4, 3, 32, 32)).auxiliary
    early.square().mean().backward()
    reached = {name.split(".")[0] for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert reached == {"stem", "to_4a", "heads"}


@pytest.mark.parametrize(("build", "side"), [(googlenet, 79), (googlenet_torchvision, 15), (googlenet_cifar, 10)])
def test_smallest_image_with_heads(build, side):
    with torch.device("meta"):
        net = build(auxiliary=True).train()
    net(torch.empty(2, 3, side, side, device="meta"))
    with pytest.raises(InputTooSmall, match=f"{side}x{side}"):
        net(torch.empty(2, 3, side - 1, side - 1, device="meta"))
    net.min_size = 1
    with pytest.raises(RuntimeError):
        net(torch.empty(2, 3, side - 1, side - 1, device="meta"))


# Training


def test_cifar_forms_cost_the_same(multiply_adds):
    bottlenecks, naive = card("googlenet-cifar").multiply_adds, card("googlenet-cifar-naive").multiply_adds
    assert abs(naive / bottlenecks - 1) < 0.002


@pytest.mark.parametrize(("build", "width"), [(googlenet_cifar, 0.125), (googlenet_cifar_naive, 0.05)])
def test_fits_a_few_images(build, width, overfits):
    overfits(build(dropout=0.0, width=width), (3, 16, 16))


def test_compiles(compiles):
    compiles(googlenet_cifar(dropout=0.0, width=0.125), (3, 16, 16))
