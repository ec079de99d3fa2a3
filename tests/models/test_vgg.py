"""VGG against torchvision, and what the paper says of it."""

from __future__ import annotations

import pytest
import torch
import torchvision.models as tv
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval
from torchvision.models.vgg import cfgs, make_layers

from cnnlib.models import card, create, vgg

CONFIGURATIONS = {"A": vgg.A, "B": vgg.B, "D": vgg.D, "E": vgg.E}
DEPTHS = {11: "A", 13: "B", 16: "D", 19: "E"}
TINY = ((8,), (16,), (16, 32))


def torchvision_with_head(configuration: str, batch_norm: bool, grid: int, *widths: int) -> tv.VGG:
    """torchvision's convolutions with a classifier of ``widths``: its own has 120 million weights."""
    net = tv.VGG(make_layers(cfgs[configuration], batch_norm), init_weights=False)
    net.avgpool = nn.AdaptiveAvgPool2d(grid)
    hidden, num_classes = widths
    net.classifier = nn.Sequential(
        *(nn.Linear(512 * grid * grid, hidden), nn.ReLU(), nn.Dropout()),
        *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout()),
        nn.Linear(hidden, num_classes),
    )
    return net


@pytest.mark.parametrize("suffix", ["", "_bn"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_card_says_what_torchvision_measured(depth, suffix):
    weights = getattr(tv, f"VGG{depth}{suffix.upper()}_Weights").IMAGENET1K_V1
    ours = card(f"vgg{depth}{suffix}")
    assert ours.parameters == weights.meta["num_params"]
    assert round(ours.multiply_adds / 1e9, 3) == weights.meta["_ops"]
    accuracies = weights.meta["_metrics"]["ImageNet-1K"].values()
    errors = [error.value for error in ours.published if error.source == f"torchvision, {weights}"]
    assert errors == pytest.approx([100 - accuracy for accuracy in accuracies], abs=1e-6)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_equals_torchvision(configuration, batch_norm, same_logits):
    ours = vgg.VGG(CONFIGURATIONS[configuration], 10, batch_norm, hidden=16)
    same_logits(ours, torchvision_with_head(configuration, batch_norm, 7, 16, 10), (3, 64, 96))


def test_equals_torchvision_in_training(same_logits):
    ours = vgg.VGG(vgg.A, 10, batch_norm=True, hidden=16, dropout=0.0)
    oracle = torchvision_with_head("A", True, 7, 16, 10)
    oracle.classifier[2].p = oracle.classifier[5].p = 0.0
    same_logits(ours, oracle, (3, 64, 64), train=True)


@pytest.mark.parametrize(
    ("depth", "parameters", "multiply_adds"),
    [(11, 9.76, 153.29), (13, 9.94, 228.79), (16, 15.25, 313.73), (19, 20.57, 398.66)],
)
def test_cifar_form_is_the_published_one(depth, parameters, multiply_adds, same_logits):
    model = card(f"vgg{depth}-cifar")  # millions, from the table of github.com/chenyaofo/pytorch-cifar-models
    assert round(model.parameters / 1e6, 2) == parameters
    assert round(model.multiply_adds / 1e6, 2) == multiply_adds
    same_logits(create(model.name), torchvision_with_head(DEPTHS[depth], True, 1, 512, 10), (3, 32, 32))


def test_layers_have_the_names_of_the_lecture():
    with torch.device("meta"):
        net = create("vgg16")
    with_weights = [name.split(".")[-1] for name, module in net.named_modules() if hasattr(module, "weight")]
    assert len(with_weights) == 16
    assert with_weights[:3] == ["conv1_1", "conv1_2", "conv2_1"]
    assert with_weights[-4:] == ["conv5_3", "fc6", "fc7", "fc8"]


def test_linear_layers_are_convolutions_over_the_whole_map(randomise, difference):
    """Section 3.2, dense evaluation: fc6 as a 7x7 convolution and fc7, fc8 as 1x1 give the same logits at 224."""
    net = vgg.VGG(((2,), (2,), (2,), (2,), (4,)), 10, hidden=8).eval()
    randomise(net)
    dense = nn.Sequential(nn.Conv2d(4, 8, 7), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 10, 1))
    for conv, name in zip(dense[::2], ("fc6", "fc7", "fc8"), strict=True):
        linear = getattr(net.classifier, name)
        conv.weight.data.copy_(linear.weight.view_as(conv.weight))
        conv.bias.data.copy_(linear.bias)
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        scores = dense(net.features(x))
        assert scores.shape == (2, 10, 1, 1)
        assert difference(scores.flatten(1), net(x)) < 1e-5


def test_normalisation_folds_into_the_convolutions(randomise, difference):
    normalised = vgg.VGG(vgg.A, 10, batch_norm=True, hidden=8).eval()
    plain = vgg.VGG(vgg.A, 10, hidden=8).eval()
    randomise(normalised)
    plain.classifier.load_state_dict(normalised.classifier.state_dict())
    for name, _ in list(plain.features.named_children()):
        if name.startswith("conv"):
            norm = getattr(normalised.features, name.replace("conv", "bn"))
            setattr(plain.features, name, fuse_conv_bn_eval(getattr(normalised.features, name), norm))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert difference(plain(x), normalised(x)) < 1e-5


def test_fits_a_few_images(overfits):
    overfits(vgg.VGG(TINY, 10, batch_norm=True, hidden=64, grid=2, dropout=0.0), (3, 16, 16), steps=60)


def test_compiles(compiles):
    compiles(vgg.VGG(TINY, 10, batch_norm=True, hidden=16, grid=1), (3, 16, 16))
