import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet, resnet
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.deeplabv3 import ASPP

from cnnlib.models import BadOption, create
from cnnlib.models.resnet import cifar_stem, imagenet_stem
from cnnlib.models.unipose import (
    DILATIONS,
    NETS,
    Cascade,
    DilatedResNet,
    Pyramid,
    UniPose,
    Waterfall,
    aspp,
    cascade,
    unipose,
    wasp,
)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def images(*shape: int) -> Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


class ByHand:
    """The equations of the authors' code on the tensors of a network, in the order in which they are registered."""

    def __init__(self, net: nn.Module):
        self.training = net.training
        self.tensors = iter([tensor.clone() for tensor in net.state_dict().values() if tensor.is_floating_point()])

    def conv_bn_relu(self, x: Tensor, dilation: int = 1) -> Tensor:
        weight = next(self.tensors)
        x = F.conv2d(x, weight, padding=dilation if weight.shape[-1] == 3 else 0, dilation=dilation)
        weight, bias, mean, var = (next(self.tensors) for _ in range(4))
        return F.relu(F.batch_norm(x, mean, var, weight, bias, training=self.training))

    def dropout(self, x: Tensor, p: float) -> Tensor:
        return F.dropout(x, p, self.training)

    def pooling(self, name: str, f: Tensor, dilations: tuple[int, ...]) -> Tensor:
        branches = [self.conv_bn_relu(f)]
        for dilation in dilations:
            branches.append(self.conv_bn_relu(f if name == "aspp" else branches[-1], dilation))
        if name == "cascade":
            branches = branches[-1:]
        if name == "wasp":
            conv2 = next(self.tensors)
            branches = [F.conv2d(F.conv2d(x, conv2), conv2) for x in branches]
        image = self.conv_bn_relu(f.mean((2, 3), keepdim=True))
        image = F.interpolate(image, f.shape[2:], mode="bilinear", align_corners=True)
        return self.dropout(self.conv_bn_relu(torch.cat((*branches, image), 1)), 0.5)

    def decoder(self, low: Tensor, x: Tensor) -> Tensor:
        low = F.max_pool2d(self.conv_bn_relu(low), 3, stride=2, padding=1)
        x = F.interpolate(x, low.shape[2:], mode="bilinear", align_corners=True)
        x = self.dropout(self.conv_bn_relu(torch.cat((x, low), 1)), 0.5)
        x = self.dropout(self.conv_bn_relu(x), 0.1)
        return F.conv2d(x, next(self.tensors), next(self.tensors))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("make", [wasp, aspp, cascade])
@pytest.mark.parametrize("dilations", [(18, 12, 6), (1, 3)])
def test_poolings_are_their_equations(make, dilations, train, randomise, difference):
    net = make(24, 8, dilations).train(train)
    randomise(net)
    f, by_hand = images(24, 20, 15), ByHand(net)
    with torch.no_grad():
        torch.manual_seed(0)
        expected = by_hand.pooling(make.__name__, f, dilations)
        torch.manual_seed(0)
        assert difference(net(f), expected) < 1e-5
    assert next(by_hand.tensors, None) is None


@pytest.mark.parametrize("train", [False, True])
def test_aspp_is_torchvisions(train, same_logits):
    same_logits(aspp(48, 16, (12, 24, 36)), ASPP(48, (12, 24, 36), 16), (48, 30, 26), train=train)


def test_counts():
    counts = {wasp: 3_214_336, aspp: 15_535_104, cascade: 2_952_192}
    with torch.device("meta"):
        assert {make: count(make()) for make in counts} == counts
        assert count(aspp()) == count(ASPP(2048, DILATIONS))
        assert count(wasp(dilations=(36, 24, 12))) == counts[wasp]


def test_convolving_twice_is_one_linear_map():
    net = Waterfall(8, 8, ()).eval()
    w = net.mix.weight.flatten(1)
    x = images(8, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(net(x), F.conv2d(net.cascade(x), (w @ w)[:, :, None, None]))


def test_waterfall_is_the_cascade_with_all_its_steps(randomise):
    falls, steps = Waterfall(6, 4, (3, 2)).eval(), Cascade(6, 4, (3, 2)).eval()
    randomise(steps)
    falls.cascade.load_state_dict(steps.state_dict())
    nn.init.eye_(falls.mix.weight[:, :, 0, 0])
    x = images(6, 9, 9)
    with torch.no_grad():
        branches = falls(x).split(4, 1)
        assert len(branches) == 3
        assert torch.equal(branches[-1], steps(x))
        assert torch.equal(branches[0], steps[0](x))


def reach(*dilations: int) -> set[int]:
    """Return how far from itself a unit sees along one axis, through 3x3 convolutions one after the other."""
    offsets = {0}
    for dilation in dilations:
        offsets = {offset + step for offset in offsets for step in (-dilation, 0, dilation)}
    return offsets


FIELDS = {
    Waterfall: [reach(), reach(18), reach(18, 12), reach(18, 12, 6)],
    Cascade: [reach(18, 12, 6)],
    Pyramid: [reach(), reach(18), reach(12), reach(6)],
}


@pytest.mark.parametrize("make", FIELDS)
def test_shape_of_the_receptive_fields(make):
    net = make(1, 1, DILATIONS).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)  # nothing is negative, so ReLU passes all
    x = torch.zeros(1, 1, 81, 81)
    x[..., 40, 40] = 1
    with torch.no_grad():
        branches = net(x)[0]
    assert len(branches) == len(FIELDS[make])
    for branch, offsets in zip(branches, FIELDS[make], strict=True):
        seen = {(row - 40, column - 40) for row, column in branch.nonzero().tolist()}
        assert seen == {(row, column) for row in offsets for column in offsets}


def test_widest_waterfall_branch_sees_a_grid_of_every_sixth_position():
    assert FIELDS[Waterfall][-1] == set(range(-36, 37, 6))


class Joined(nn.Module):
    """A backbone whose two outputs are one tensor, so that all of it can be compared."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone(x)
        return torch.cat([m.flatten(1) for m in (maps.values() if isinstance(maps, dict) else maps)], 1)


def torchvisions_backbone(replace: list[bool], last_dilations: tuple[int, ...] = ()) -> IntermediateLayerGetter:
    net = ResNet(resnet.Bottleneck, [1, 2, 2, 3], replace_stride_with_dilation=replace)
    for block, dilation in zip(net.layer4, last_dilations, strict=False):
        block.conv2.dilation = block.conv2.padding = (dilation, dilation)
    return IntermediateLayerGetter(net, {"layer1": "low", "layer4": "high"})


REDUCED = ((256, 1, (1,)), (512, 2, (1, 1)), (1024, 2, (1, 1)), (2048, 1, (2, 4, 8)))
REDUCED_STRIDE_8 = ((256, 1, (1,)), (512, 2, (1, 1)), (1024, 1, (2, 2)), (2048, 1, (4, 8, 16)))


@pytest.mark.parametrize(
    ("stages", "replace", "last_dilations"),
    [
        ((*REDUCED[:3], (2048, 1, (1, 2, 2))), [False, False, True], ()),
        ((*REDUCED[:2], (1024, 1, (1, 2)), (2048, 1, (2, 4, 4))), [False, True, True], ()),
        (REDUCED, [False, False, True], (2, 4, 8)),  # torchvision has no multi-grid, but its blocks can be set to it
    ],
)
def test_backbone_is_torchvisions(stages, replace, last_dilations, same_logits):
    oracle = Joined(torchvisions_backbone(replace, last_dilations))
    same_logits(Joined(DilatedResNet(stages, imagenet_stem, 64)), oracle, (3, 64, 48))


def test_backbone_of_full_depth_is_resnet_101():
    def shapes(stages: list[nn.Module]) -> list[list[torch.Size]]:
        return [[parameter.shape for parameter in stage.parameters()] for stage in stages]

    with torch.device("meta"):
        net, oracle = create("unipose"), resnet.resnet101()
    assert shapes(net.backbone.stages) == shapes([oracle.layer1, oracle.layer2, oracle.layer3, oracle.layer4])


@pytest.mark.parametrize(
    ("name", "dilations"),
    [
        ("101", [*[1] * 3, *[1] * 4, *[1] * 23, 2, 4, 8, 18, 12, 6]),
        ("101-stride8", [*[1] * 3, *[1] * 4, *[2] * 23, 4, 8, 16, 36, 24, 12]),
    ],
)
def test_dilations_by_output_stride(name, dilations):
    with torch.device("meta"):
        net = unipose(name)
        low, high = net.backbone(torch.empty(1, 3, 368, 368))
    parts = (net.backbone.stages, net.pooling)
    convolutions = [m for part in parts for m in part.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [convolution.dilation[0] for convolution in convolutions] == dilations
    assert low.shape[1:] == (256, 92, 92)
    assert high.shape[1:] == ((2048, 23, 23) if name == "101" else (2048, 46, 46))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("name", "side"), [("wasp", 48), ("aspp", 33), ("cascade", 48)])
def test_network_is_its_equations(name, side, train, randomise, difference):
    net = unipose("small", keypoints=3, pooling=name).train(train)
    randomise(net)
    x = images(3, side, side + 7)
    with torch.no_grad():
        low, high = net.backbone(x)
        torch.manual_seed(0)
        expected = ByHand(net.decoder).decoder(low, ByHand(net.pooling).pooling(name, high, (6, 4, 2)))
        torch.manual_seed(0)
        assert difference(net(x), expected) < 1e-5


@pytest.mark.parametrize(
    ("name", "keypoints", "shape", "heatmaps"),
    [
        ("unipose", 14, (3, 368, 368), (46, 46)),
        ("unipose-stride8", 16, (3, 100, 75), (13, 10)),
        ("unipose-small", 5, (3, 64, 48), (32, 24)),
    ],
)
def test_one_heatmap_a_keypoint_and_one_of_the_background(name, keypoints, shape, heatmaps):
    with torch.device("meta"):
        assert create(name, keypoints=keypoints)(torch.empty(2, *shape)).shape == (2, keypoints + 1, *heatmaps)


def tiny(keypoints: int) -> UniPose:
    stages = ((16, 1, (1,)), (32, 2, (1, 2)))
    return UniPose(stages, (2,), keypoints, stem=cifar_stem, stem_width=8, width=12, low_width=4)


def test_any_pooling_stem_and_stages_make_a_net():
    def convolution(in_channels: int, out_channels: int, dilations: tuple[int, ...]) -> nn.Module:
        return nn.Conv2d(in_channels, out_channels, 3, padding=dilations[0], dilation=dilations[0])

    net = UniPose(((16, 1, (1,)), (32, 2, (1, 2))), (4,), 2, convolution, cifar_stem, stem_width=8, width=12)
    assert net(images(3, 20, 20)).shape == (2, 3, 10, 10)
    assert net.pooling.dilation == (4, 4)


def test_poolings_differ_in_one_module_only():
    def outside(net: nn.Module) -> list[str]:
        return [name for name in net.state_dict() if not name.startswith("pooling.")]

    with torch.device("meta"):
        nets = [create("unipose-small", pooling=name) for name in ("wasp", "aspp", "cascade")]
    assert outside(nets[0]) == outside(nets[1]) == outside(nets[2])
    assert len({count(net.pooling) for net in nets}) == 3


def test_wrong_pooling_is_explained():
    with pytest.raises(BadOption, match="pooling is 'wasp', 'aspp' or 'cascade', not 'spp'"):
        create("unipose", pooling="spp")


def test_wrong_net_is_explained():
    with pytest.raises(BadOption, match=f"no net '50'; there are {', '.join(NETS)}"):
        unipose("50")


def test_number_of_classes_is_no_option():
    with pytest.raises(BadOption, match=r"no option num_classes; it takes keypoints=14, pooling='wasp'"):
        create("unipose", num_classes=10)


def test_fits_the_heatmaps_of_a_few_images():
    torch.manual_seed(0)
    net = create("unipose-small", keypoints=1)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    rows, columns, side = torch.tensor([3, 10, 6, 12]), torch.tensor([5, 9, 13, 2]), torch.arange(16)
    distance = (side[:, None] - rows[:, None, None]) ** 2 + (side - columns[:, None, None]) ** 2
    keypoint = torch.exp(-distance / 8)
    targets = torch.stack((1 - keypoint, keypoint), 1)
    x = torch.randn(4, 3, 32, 32)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        heatmaps = net(x)
        F.mse_loss(heatmaps, targets).backward()
        optimizer.step()
    found = heatmaps[:, 1].flatten(1).argmax(1)
    assert ((found // 16 - rows).abs() <= 1).all()
    assert ((found % 16 - columns).abs() <= 1).all()


def test_compiles(compiles):
    compiles(tiny(keypoints=2), (3, 16, 16))
