import copy
import itertools
import math
import pickle
from functools import partial

import pytest
import torch
from pytorchcv.models.resdropresnet_cifar import get_resdropresnet_cifar
from torch import nn

from cnnlib.models import BadOption, create
from cnnlib.models.resnet import ResidualBlock, ResNet, option_b
from cnnlib.models.stochastic_depth import (
    RescaledBlock,
    StochasticDepthBlock,
    average_and_pad,
    cifar_rescaled_stochastic_depth,
    cifar_stochastic_depth,
    depth_distribution,
    expected_depth,
    in_order,
    survival_probabilities,
)

BOTH_NETS = pytest.mark.parametrize("build", [cifar_stochastic_depth, cifar_rescaled_stochastic_depth])


def blocks_of(net: nn.Module) -> list[StochasticDepthBlock]:
    return [module for module in net.modules() if isinstance(module, StochasticDepthBlock)]


def constant_depth(depth: int) -> ResNet:
    """The residual net with the shortcuts of this paper."""
    n = (depth - 2) // 6
    return ResNet(partial(ResidualBlock, shortcut=average_and_pad), (n, n, n), (16, 32, 64))


def images(count: int = 4, side: int = 16) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_linear_rule_is_equation_4():
    assert survival_probabilities(4, 0.5) == (0.875, 0.75, 0.625, 0.5)
    assert survival_probabilities(3, 1.0) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("blocks", [54, 600])
def test_expected_depth_is_the_papers(blocks):
    assert expected_depth(survival_probabilities(blocks)) == pytest.approx((3 * blocks - 1) / 4)  # section 3


def test_distribution_of_the_depth_is_the_sum_over_all_sets_of_gates():
    rule = (0.9, 0.75, 0.5, 0.2)
    by_hand = [0.0] * 5
    for gates in itertools.product((0, 1), repeat=4):
        by_hand[sum(gates)] += math.prod(p if gate else 1 - p for gate, p in zip(gates, rule, strict=True))
    assert depth_distribution(rule) == pytest.approx(by_hand)
    assert depth_distribution(()) == (1.0,)
    many = survival_probabilities(54)
    mean = sum(depth * p for depth, p in enumerate(depth_distribution(many)))
    assert mean == pytest.approx(expected_depth(many))


@pytest.mark.parametrize("suffix", ["", "-rescaled"])
def test_blocks_get_their_probabilities_in_order(suffix):
    with torch.device("meta"):
        net = create(f"stochastic-depth-110{suffix}")
    assert [block.survival for block in blocks_of(net)] == list(survival_probabilities(54, 0.5))


@BOTH_NETS
def test_survival_of_each_block_can_be_set(build):
    wanted = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    assert [block.survival for block in blocks_of(build(14, survival=wanted))] == wanted
    assert [block.survival for block in blocks_of(build(8, survival=0.7))] == list(survival_probabilities(3, 0.7))


def test_wrong_survival_is_explained():
    with pytest.raises(BadOption, match="8 layers have 3 blocks, but these are 2 survival probabilities"):
        cifar_stochastic_depth(8, survival=[0.5, 0.5])
    for wrong in (1.5, -0.5):
        with pytest.raises(BadOption, match=f"lies between 0 and 1, unlike {wrong}"):
            cifar_stochastic_depth(8, survival=[1.0, 0.5, wrong])
    with pytest.raises(BadOption, match=r"lies between 0 and 1, unlike 50$"):
        create("stochastic-depth-110", survival=50)
    with pytest.raises(BadOption, match="survival is one number or a sequence of them, not 'abc'"):
        cifar_stochastic_depth(8, survival="abc")
    with pytest.raises(BadOption, match="with a survival probability of 0 a rescaled block is never trained"):
        cifar_rescaled_stochastic_depth(8, survival=[1.0, 0.5, 0.0])


@BOTH_NETS
@pytest.mark.parametrize("train", [False, True])
def test_survival_1_is_the_resnet_exactly(build, train, randomise, copy_weights):
    net, resnet = build(14, survival=1).train(train), constant_depth(14).train(train)
    randomise(net)
    copy_weights(net, resnet)
    assert torch.equal(net(images()), resnet(images()))
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), resnet.buffers(), strict=True))


def test_evaluation_is_the_resnet_with_scaled_branches(randomise, copy_weights, difference):
    net, resnet = cifar_stochastic_depth(14).eval(), constant_depth(14).eval()
    randomise(net)
    copy_weights(net, resnet)
    for block, probability in zip(
        (block for stage in resnet.stages for block in stage), survival_probabilities(6), strict=True
    ):
        block.f.bn2.weight.data *= probability
        block.f.bn2.bias.data *= probability
    assert difference(net(images()), resnet(images())) < 1e-5


def test_rescaled_evaluation_is_the_resnet(randomise, copy_weights):
    net, resnet = cifar_rescaled_stochastic_depth(14).eval(), constant_depth(14).eval()
    randomise(net)
    copy_weights(net, resnet)
    assert torch.equal(net(images()), resnet(images()))


def rescaled_with_projections(survival: float) -> ResNet:
    block = partial(RescaledBlock, shortcut=option_b)
    return ResNet(in_order(block, survival_probabilities(9, survival)), (3, 3, 3), (16, 32, 64))


def test_rescaled_evaluation_is_pytorchcvs(same_logits):
    oracle = get_resdropresnet_cifar(num_classes=10, blocks=20, bottleneck=False)
    ours = rescaled_with_projections(0.5)
    units = [module for module in oracle.modules() if hasattr(module, "life_prob")]
    assert [unit.life_prob for unit in units] == [block.survival for block in blocks_of(ours)]
    same_logits(ours, oracle, (3, 32, 32))


def test_rescaled_training_is_pytorchcvs_where_no_block_is_dropped(same_logits):
    oracle = get_resdropresnet_cifar(num_classes=10, blocks=20, bottleneck=False)
    ours = rescaled_with_projections(0.5)
    for unit in (module for module in oracle.modules() if hasattr(module, "life_prob")):
        unit.life_prob = 1.0  # its gates come from other draws, and a branch that it drops still updates its statistics
    for block in blocks_of(ours):
        block.survival = 1.0
    same_logits(ours, oracle, (3, 32, 32), train=True)


def test_gates_have_their_frequencies():
    torch.manual_seed(0)
    for probability in (0.0, 0.25, 0.9, 1.0):
        block = StochasticDepthBlock(1, 1, survival=probability)
        frequency = sum(block.survives() for _ in range(2000)) / 2000
        assert frequency == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 2000) ** 0.5)


@BOTH_NETS
def test_dropped_blocks_do_not_run(build):
    net = build(8, survival=[1.0, 1e-9, 0.5])
    calls = [0, 0, 0]
    for index, block in enumerate(blocks_of(net)):

        def count(module, inputs, index=index):
            calls[index] += 1

        block.f.register_forward_pre_hook(count)
    torch.manual_seed(0)
    x = images(2, 4)
    for _ in range(60):
        net(x)
    assert calls[:2] == [60, 0]
    assert 15 < calls[2] < 45
    net.eval()
    before = list(calls)
    net(x)
    assert calls == [count + 1 for count in before]  # the test net has all its blocks


def test_one_gate_is_for_the_whole_batch():
    torch.manual_seed(0)
    block = StochasticDepthBlock(2, 2, survival=0.5)
    x = torch.rand(8, 2, 4, 4)
    kept = [(block(x) != x).flatten(1).any(1) for _ in range(20)]
    assert {tuple(images.tolist()) for images in kept} == {(True,) * 8, (False,) * 8}


@pytest.mark.parametrize("block", [StochasticDepthBlock, RescaledBlock])
def test_a_dropped_block_is_its_shortcut_and_learns_nothing(block):
    dropped = block(4, 8, 2, survival=0.0)
    statistics = copy.deepcopy(list(dropped.f.buffers()))
    x = torch.rand(2, 4, 6, 6, requires_grad=True)
    y = dropped(x)
    assert torch.equal(y, average_and_pad(4, 8, 2)(x))
    y.sum().backward()
    assert all(parameter.grad is None for parameter in dropped.parameters())
    assert all(torch.equal(a, b) for a, b in zip(dropped.f.buffers(), statistics, strict=True))


@BOTH_NETS
def test_its_relus_may_work_in_place(build):
    torch.manual_seed(0)
    net = build(14, survival=0.5)
    twin = copy.deepcopy(net)
    for module in twin.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    gradients = []
    for model in (net, twin):
        torch.manual_seed(1)  # some blocks with an identity as shortcut are dropped
        model(images()).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert None in gradients[0]
    torch.testing.assert_close(gradients[1], gradients[0])


def test_training_is_not_rescaled_but_in_the_rescaled_form():
    block, rescaled = StochasticDepthBlock(4, 4, survival=0.5), RescaledBlock(4, 4, survival=0.5)
    rescaled.load_state_dict(block.state_dict())
    x = torch.rand(8, 4, 6, 6) + 10  # so large that the last ReLU changes nothing
    f = block.f(x)
    torch.manual_seed(0)
    for _ in range(10):
        state = torch.get_rng_state()
        survived = block.survives()
        torch.set_rng_state(state)
        torch.testing.assert_close(block(x) - x, f * survived, rtol=0, atol=1e-5)
        torch.set_rng_state(state)
        torch.testing.assert_close(rescaled(x) - x, f * survived / 0.5, rtol=0, atol=1e-5)


@pytest.mark.parametrize("block", [StochasticDepthBlock, RescaledBlock])
@pytest.mark.parametrize("survival", [0.3, 0.8])
def test_the_test_output_is_the_mean_of_the_training_outputs(block, survival):
    net = block(4, 4, survival=survival)
    for module in net.f.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # statistics of the batch would make F another function in training
    nn.init.constant_(net.f.bn2.weight, 0.01)  # F so small that no sum is negative, whatever the weights: no ReLU acts
    x = torch.rand(2, 4, 6, 6) + 10
    net.survives = lambda: True
    kept = net(x)
    net.survives = lambda: False
    mean = survival * kept + (1 - survival) * net(x)
    torch.testing.assert_close(net.eval()(x), mean)


def test_manual_seed_fixes_the_gates():
    torch.manual_seed(0)
    net = cifar_stochastic_depth(20)
    twin = pickle.loads(pickle.dumps(net))
    runs = []
    for model in (net, twin):
        torch.manual_seed(3)
        runs.append([model(images()) for _ in range(5)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert not torch.equal(runs[0][0], net(images()))


def test_gates_leave_no_mark_in_evaluation():
    net = cifar_stochastic_depth(14).eval()
    state = torch.get_rng_state()
    assert torch.equal(net(images()), net(images()))
    assert torch.equal(torch.get_rng_state(), state)


def test_shortcut_averages_and_appends_zeros():
    shortcut = average_and_pad(2, 5, 2)
    x = torch.randn(1, 2, 4, 4)
    y = shortcut(x)
    torch.testing.assert_close(y[:, :2], x.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5)))
    assert (y[:, 2:] == 0).all()
    assert list(shortcut.parameters()) == []
    assert isinstance(average_and_pad(4, 4, 1), nn.Identity)
    assert average_and_pad(4, 8, 1)(torch.zeros(1, 4, 3, 3)).shape == (1, 8, 3, 3)


def test_odd_images_fit_their_shortcuts():
    shortcut = average_and_pad(1, 1, 2)
    assert shortcut(torch.ones(1, 1, 7, 5)).shape == (1, 1, 4, 3)
    assert (shortcut(torch.ones(1, 1, 7, 5)) == 1).all()  # nothing outside of the image is counted
    assert cifar_stochastic_depth(8).eval()(images(1, 7)).shape == (1, 10)


@BOTH_NETS
def test_overfits(build, overfits):
    torch.manual_seed(0)
    overfits(build(14, survival=0.9), (3, 16, 16), lr=0.05, steps=60)


def test_compiles(compiles):
    compiles(cifar_stochastic_depth(8), (3, 16, 16))


def test_training_compiles_with_a_break_in_the_graph():
    torch.manual_seed(0)
    block = StochasticDepthBlock(2, 2, survival=0.5)
    twin = copy.deepcopy(block)
    torch._dynamo.reset()
    compiled = torch.compile(twin, backend="aot_eager")
    x = torch.rand(2, 2, 4, 4)
    for seed in range(4):
        torch.manual_seed(seed)
        wanted = block(x)
        torch.manual_seed(seed)
        torch.testing.assert_close(compiled(x), wanted)


@pytest.mark.parametrize("wrong", [2.0, -0.5, float("nan"), "0.5"])
@pytest.mark.parametrize(
    "use",
    [
        lambda wrong: survival_probabilities(3, wrong),
        lambda wrong: depth_distribution([0.5, wrong]),
        lambda wrong: StochasticDepthBlock(3, 3, survival=wrong),
    ],
    ids=["rule", "distribution", "block"],
)
def test_a_survival_probability_is_one(use, wrong):
    with pytest.raises(BadOption, match="a survival probability lies between 0 and 1, unlike"):
        use(wrong)
