import copy
import functools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlib.measure import BadArgument, block_flow, gradient_flow
from cnnlib.models import create
from cnnlib.models.preact import FULL, ORIGINAL, basic_net


def batch(count=4, classes=10):
    noise = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 8, 8, generator=noise), torch.arange(count) % classes


def test_sizes_are_those_of_autograd():
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 5, 3), nn.Linear(5, 10)
    net = nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), second)
    images, labels = batch()
    maps = first(images)
    loss = F.cross_entropy(net[1:](maps), labels)
    by_maps, by_weight = torch.autograd.grad(loss, (maps, first.weight))
    flow = gradient_flow(net, images, labels)
    assert [row.layer for row in flow] == ["0", "4"]
    rms = lambda values: math.sqrt(values.detach().square().mean())  # noqa: E731
    assert flow[0].signal == pytest.approx(rms(maps), rel=1e-5)
    assert flow[0].gradient == pytest.approx(4 * rms(by_maps), rel=1e-5)
    assert flow[0].weight_gradient == pytest.approx(rms(by_weight), rel=1e-5)


def test_the_gradient_of_an_image_does_not_depend_on_how_many_there_are():
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(180, 10))
    images, labels = batch(1)
    (one, _), (many, _) = (gradient_flow(net, images.repeat(n, 1, 1, 1), labels.repeat(n)) for n in (1, 3))
    assert many.gradient == pytest.approx(one.gradient, rel=1e-5)


def test_the_network_stays_as_it_is():
    net = create("resnet20").eval()
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    flow = gradient_flow(net, *batch())
    assert len(flow) == 20
    assert flow[0].layer == "stem.conv"
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not net.training
    assert torch.equal(torch.get_rng_state(), state)


def test_without_batch_norm_a_deep_plain_net_loses_its_signal_and_a_shortcut_keeps_it():
    def stack(block):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3, padding=1), *(block() for _ in range(20)), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(8, 10))

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            return self.conv(x).relu()

    class Residual(Plain):
        def forward(self, x):
            return x + super().forward(x)

    plain, residual = (gradient_flow(stack(block), *batch()) for block in (Plain, Residual))
    assert plain[0].gradient < 1e-3 * plain[-2].gradient
    assert residual[0].gradient > 0.1 * residual[-2].gradient


def test_auxiliary_heads_do_not_count():
    class TwoAnswers(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.other = nn.Linear(192, 10), nn.Linear(192, 10)

        def forward(self, x):
            return self.main(x.flatten(1)), self.other(x.flatten(1))

    assert [row.layer for row in gradient_flow(TwoAnswers(), *batch())] == ["main"]


@pytest.mark.parametrize("measure", [gradient_flow, functools.partial(block_flow, branch="0")])
def test_what_the_next_layer_does_in_place_does_not_count(measure):
    def stack(inplace):
        torch.manual_seed(0)
        block = lambda *size: nn.Sequential(nn.Conv2d(*size, 3, padding=1))  # noqa: E731
        body = [block(3, 5), nn.ReLU(inplace), block(5, 5), nn.BatchNorm2d(5), nn.Hardswish(inplace)]
        return nn.Sequential(*body, nn.Flatten(), nn.Linear(320, 10))

    assert measure(stack(True), *batch()) == measure(stack(False), *batch())


@pytest.mark.parametrize("measure", [gradient_flow, functools.partial(block_flow, branch="1")])
def test_batch_norm_takes_the_statistics_of_the_images(measure):
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)), nn.Flatten(), nn.Linear(180, 10)).eval()
    near = measure(net, *batch())
    nn.init.constant_(net[0][1].running_mean, 100)
    nn.init.constant_(net[0][1].running_var, 1e4)
    assert measure(net, *batch()) == near


def test_the_first_call_of_a_layer_counts():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 3, 3, padding=1)
    net = nn.Sequential(conv, conv, nn.Flatten(), nn.Linear(192, 10))
    images, labels = batch()
    expected = conv(images).detach().double().square().mean().sqrt().item()
    assert gradient_flow(net, images, labels)[0].signal == pytest.approx(expected)


@pytest.mark.parametrize("measure", [gradient_flow, functools.partial(block_flow, branch="0")])
def test_gradients_may_be_off_and_random_numbers_are_the_callers(measure):
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 5, 3)), nn.Dropout(), nn.Flatten(), nn.Linear(180, 10))
    state = torch.get_rng_state()
    with torch.no_grad():
        assert len(measure(net, *batch())) > 0
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("measure", [gradient_flow, functools.partial(block_flow, branch="0")])
@pytest.mark.parametrize("frozen", [slice(1), slice(None)], ids=["first", "all"])
def test_frozen_layers_are_measured_like_the_others(measure, frozen):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 5, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(180, 10))
    free = measure(net, *batch())
    for layer in net[frozen]:
        layer.requires_grad_(False)
    assert measure(net, *batch()) == free
    assert not net[0][0].weight.requires_grad


def test_nothing_to_measure():
    with pytest.raises(BadArgument, match="Sequential has no convolution or linear layer"):
        gradient_flow(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192)), *batch(classes=4))


@pytest.mark.parametrize("measure", [gradient_flow, functools.partial(block_flow, branch="0")])
def test_an_answer_that_is_no_row_of_logits_for_each_label_is_refused(measure):
    maps = nn.Sequential(nn.Sequential(nn.Conv2d(3, 10, 3)), nn.ReLU())
    images, labels = batch()
    with pytest.raises(BadArgument, match=r"Sequential must answer .* labels of 4 .* an answer of 4x10x6x6"):
        measure(maps, images, labels)
    assert len(measure(maps, images, labels[:, None, None].expand(4, 6, 6))) == 1  # a label for each pixel


def test_a_block_of_two_outputs_is_refused():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return x, self.f(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.two, self.head = Two(), nn.Linear(192, 10)

        def forward(self, x):
            return self.head(sum(self.two(x)).flatten(1))

    with pytest.raises(BadArgument, match="'two' must put out one tensor to be measured, not a tuple"):
        block_flow(Net(), *batch())


def test_hooks_of_the_network_do_not_fire():
    net, fired = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(180, 10)), []
    for module in net.modules():
        module.register_full_backward_pre_hook(lambda *_: fired.append("before"))
        module.register_full_backward_hook(lambda *_: fired.append("after"))
    assert len(gradient_flow(net, *batch())) == 2
    assert not fired


def residual_by_hand(images, labels, head, branches):
    """Gradients of the loss by the outputs of ``x + branch(x)`` units, for one image, from autograd."""
    x, outputs = images, []
    for branch in branches:
        x = x + branch(x)
        outputs.append(x)
    loss = F.cross_entropy(head(x.flatten(1)), labels)
    return [len(images) * g.square().mean().sqrt().item() for g in torch.autograd.grad(loss, outputs)], outputs


def test_blocks_flow_as_autograd_says():
    class Unit(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return x + self.f(x)

    torch.manual_seed(0)
    net = nn.Sequential(Unit(), Unit(), Unit(), nn.Flatten(), nn.Linear(192, 10))
    images, labels = batch()
    gradients, outputs = residual_by_hand(images, labels, net[4], [unit.f for unit in net[:3]])
    flow = block_flow(net, images, labels)
    assert [row.block for row in flow] == ["0", "1", "2"]
    assert [row.gradient for row in flow] == pytest.approx(gradients, rel=1e-5)
    assert [row.signal for row in flow] == pytest.approx(
        [o.detach().square().mean().sqrt().item() for o in outputs], rel=1e-5
    )
    assert [row.shortcut_gradient for row in flow] == pytest.approx([gradients[-1]] * 3, rel=1e-5)
    assert flow[0].gradient != pytest.approx(flow[0].shortcut_gradient, rel=0.01)


@pytest.mark.parametrize(("order", "kept"), [(FULL, True), (ORIGINAL, False), ("plain", None)])
def test_only_an_identity_path_carries_the_gradient_back_unchanged(order, kept):
    torch.manual_seed(0)
    net = create("plain20") if order == "plain" else basic_net(order, 20)
    first, middle, last = block_flow(net, *batch())[-3:]
    assert last.shortcut_gradient == pytest.approx(last.gradient)
    if kept is None:  # nothing but the branches
        assert first.shortcut_gradient == middle.shortcut_gradient == 0 < first.gradient
    else:
        assert (first.shortcut_gradient == pytest.approx(last.gradient)) is kept


@pytest.mark.parametrize(
    "holder",
    [
        nn.ModuleList,
        lambda pair: nn.ModuleDict(zip("ab", pair, strict=True)),
        lambda pair: nn.ModuleList([nn.ModuleList(pair)]),
    ],
)
def test_a_branch_may_be_a_list_or_dictionary_of_modules(holder):
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = holder([nn.Conv2d(3, 3, 3, padding=1) for _ in range(2)])

        def forward(self, x):
            first, second = (module for module in self.f.modules() if isinstance(module, nn.Conv2d))
            return x + second(x + first(x))

    torch.manual_seed(0)
    first, last = block_flow(nn.Sequential(Steps(), Steps(), nn.Flatten(), nn.Linear(192, 10)), *batch())
    assert first.shortcut_gradient == pytest.approx(last.gradient)
    assert first.gradient != pytest.approx(last.gradient, rel=0.01)


@pytest.mark.parametrize(
    "call",
    [lambda f, x: f(x=x, scale=1), lambda f, x: f(x, 1), lambda f, x: f([x], scale=1)],
    ids=["named", "number", "list"],
)
def test_a_branch_is_cut_off_however_it_is_called(call):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x, scale):
            return scale * self.conv(x[0] if isinstance(x, list) else x)

    class Unit(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = Scaled()

        def forward(self, x):
            return x + call(self.f, x)

    first, last = block_flow(nn.Sequential(Unit(), Unit(), nn.Flatten(), nn.Linear(192, 10)), *batch())
    assert first.shortcut_gradient == pytest.approx(last.gradient)
    assert first.gradient != pytest.approx(last.gradient, rel=0.01)


def test_what_a_branch_holds_is_no_block():
    assert [row.block for row in block_flow(create("se-resnet20"), *batch())] == [
        f"stages.{stage}.{block}" for stage in range(3) for block in range(3)
    ]


def test_a_net_stays_as_it_is_when_its_blocks_are_measured():
    net = basic_net(FULL, 20).eval()
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    assert len(block_flow(net, *batch())) == 9
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not net.training
    assert torch.equal(torch.get_rng_state(), state)


def test_no_blocks_to_measure():
    with pytest.raises(BadArgument, match="Sequential has no block with a branch 'f'"):
        block_flow(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), *batch())
