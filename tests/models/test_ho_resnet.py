import math
from collections.abc import Iterator
from fractions import Fraction
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from cnnlib.models import BadOption, available, card, create
from cnnlib.models.ho_resnet import SCHEMES, HigherOrderBlock, Scheme, ho_resnet, pre_activated
from cnnlib.models.resnet import ResidualBlock, ResNet, option_a

every_scheme = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())
Tree = tuple  # a rooted tree is the tuple of its root's subtrees, sorted


def forests(nodes: int, largest: int) -> Iterator[tuple[Tree, ...]]:
    """All sorted tuples of trees of at most ``largest`` nodes each, with this number of nodes in all."""
    if nodes == 0:
        yield ()
    for size in range(1, min(nodes, largest) + 1):
        for tree in trees(size):
            for rest in forests(nodes - size, size):
                yield tuple(sorted((tree, *rest)))


def trees(nodes: int) -> set[Tree]:
    return set(forests(nodes - 1, nodes - 1))


def size(tree: Tree) -> int:
    return 1 + sum(map(size, tree))


def density(tree: Tree) -> int:
    return size(tree) * math.prod(map(density, tree))


def elementary_weights(tree: Tree, a: list[list[Fraction]]) -> list[Fraction]:
    below = [elementary_weights(subtree, a) for subtree in tree]
    return [
        math.prod(sum(weight * w[j] for j, weight in enumerate(row)) for w in below) if below else Fraction(1)
        for row in a
    ]


def holds(scheme: Scheme, tree: Tree) -> bool:
    """Butcher's condition: sum b_i phi_i(tree) = 1 / gamma(tree), in exact arithmetic."""

    def exact(values: tuple[float, ...]) -> list[Fraction]:
        return [Fraction(value).limit_denominator(1000) for value in values]

    phi = elementary_weights(tree, [exact(row) for row in scheme.a])
    return sum(b * weight for b, weight in zip(exact(scheme.b), phi, strict=True)) == Fraction(1, density(tree))


def test_the_trees_are_butchers():
    assert [len(trees(nodes)) for nodes in range(1, 7)] == [1, 1, 2, 4, 9, 20]
    assert sorted(density(tree) for tree in trees(4)) == [4, 8, 12, 24]


@every_scheme
def test_order_conditions_hold_up_to_the_order_and_not_beyond(scheme):
    conditions = [tree for nodes in range(1, scheme.order + 1) for tree in trees(nodes)]
    assert all(holds(scheme, tree) for tree in conditions)
    assert not all(holds(scheme, tree) for tree in trees(scheme.order + 1))


@every_scheme
def test_tableaux_are_explicit_and_consistent(scheme):
    assert [len(row) for row in scheme.a] == list(range(len(scheme.b)))
    assert sum(scheme.b) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("euler", [0]),
        ("midpoint", [0, 1 / 2]),
        ("heun", [0, 1]),
        ("kutta3", [0, 1 / 2, 1]),
        ("rk4", [0, 1 / 2, 1 / 2, 1]),
        ("nystrom5", [0, 1 / 3, 2 / 5, 1, 2 / 3, 4 / 5]),
    ],
)
def test_rows_sum_to_the_nodes(name, nodes):
    assert [sum(row) for row in SCHEMES[name].a] == pytest.approx(nodes)


class Linear(nn.Module):
    """F(x) = A x on the channels of each pixel."""

    def __init__(self, a: Tensor):
        super().__init__()
        self.a = a

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ij,njhw->nihw", self.a, x)


@every_scheme
def test_a_linear_f_gives_the_taylor_polynomial(scheme):
    torch.manual_seed(0)
    a = 0.1 * torch.rand(4, 4, dtype=torch.float64)  # nothing is negative, so that the ReLU changes nothing
    x = torch.rand(2, 4, 3, 3, dtype=torch.float64)
    f = Linear(a)
    block = HigherOrderBlock(4, 4, scheme=scheme, f=lambda *shape: f)
    polynomial = sum(torch.linalg.matrix_power(a, k) / math.factorial(k) for k in range(scheme.order + 1))
    error = block(x) - Linear(polynomial)(x)
    if len(scheme.b) == scheme.order:  # RK4: I + A + A^2/2 + A^3/6 + A^4/24, exactly
        torch.testing.assert_close(error, torch.zeros_like(error), rtol=0, atol=1e-14)
    else:  # a scheme with more evaluations than its order has a further term
        assert 0 < error.abs().max() < torch.linalg.matrix_norm(a, 2) ** (scheme.order + 1)


@pytest.mark.parametrize("name", SCHEMES)
def test_error_of_steps_falls_with_the_order(name):
    """Solve x' = -x^2 by n steps of a block without ReLU: doubling n divides the error by 2^order."""

    class Slope(nn.Module):
        def __init__(self, h: float):
            super().__init__()
            self.h = h

        def forward(self, x: Tensor) -> Tensor:
            return -self.h * x**2

    errors = []
    for steps in (8, 16):
        slope = Slope(1 / steps)
        block = HigherOrderBlock(1, 1, scheme=SCHEMES[name], f=lambda *shape, slope=slope: slope)
        x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        for _ in range(steps):
            x = block(x)
        errors.append(abs(x.item() - 0.5))  # x(1) = 1 / (1 + 1)
    assert math.log2(errors[0] / errors[1]) == pytest.approx(SCHEMES[name].order, abs=0.3)


def block_and_input(scheme: str, randomise, *shape: int) -> tuple[HigherOrderBlock, Tensor]:
    block = HigherOrderBlock(*shape, scheme=SCHEMES[scheme])
    randomise(block)
    return block.eval(), torch.randn(2, shape[0], 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(4, 4, 1), (4, 8, 2)])
def test_blocks_are_their_equations(shape, randomise):
    s = option_a(*shape)

    block, x = block_and_input("euler", randomise, *shape)
    torch.testing.assert_close(block(x), torch.relu(s(x) + block.f[0](x)))

    block, x = block_and_input("midpoint", randomise, *shape)
    f1, f2 = block.f
    torch.testing.assert_close(block(x), torch.relu(s(x) + f2(s(x) + f1(x) / 2)))

    block, x = block_and_input("heun", randomise, *shape)
    f1, f2 = block.f
    torch.testing.assert_close(block(x), torch.relu(s(x) + (f1(x) + f2(s(x) + f1(x))) / 2))

    block, x = block_and_input("rk4", randomise, *shape)
    f1, f2, f3, f4 = block.f
    k1 = f1(x)
    k2 = f2(s(x) + k1 / 2)
    k3 = f3(s(x) + k2 / 2)
    k4 = f4(s(x) + k3)
    torch.testing.assert_close(block(x), torch.relu(s(x) + (k1 + 2 * k2 + 2 * k3 + k4) / 6))


@every_scheme
@pytest.mark.parametrize("step", [0.25, 2.0])
def test_a_step_of_another_length_is_one_of_a_scaled_f(scheme, step, randomise, copy_weights):
    ours, scaled = HigherOrderBlock(4, 4, 1, scheme.over(step)).eval(), HigherOrderBlock(4, 4, 1, scheme).eval()
    randomise(ours)
    copy_weights(ours, scaled)
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(ours(x), scaled(x))
    for f in scaled.f:
        f.conv2.weight.data *= step
    torch.testing.assert_close(ours(x), scaled(x))


def test_every_block_of_a_net_makes_the_step():
    net = create("ho-resnet26-midpoint", step=0.5)
    steps = [sum(module.scheme.b) for module in net.modules() if isinstance(module, HigherOrderBlock)]
    assert steps == [0.5] * 6
    assert [module.scheme.a for module in net.modules() if isinstance(module, HigherOrderBlock)] == [((), (0.25,))] * 6


@pytest.mark.parametrize("step", [0, -1.0, math.nan, math.inf])
def test_a_step_leads_on(step):
    with pytest.raises(BadOption, match="a step is longer than 0"):
        ho_resnet(26, step=step)


def test_euler_is_a_residual_net(randomise, copy_weights):
    ours = create("ho-resnet26-euler").eval()
    block = partial(ResidualBlock, f=pre_activated, shortcut=option_a)
    residual = ResNet(block, (4, 4, 4), (16, 32, 64)).eval()
    randomise(ours)
    copy_weights(ours, residual)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), residual(x))


def test_f_is_pre_activated():
    kinds = [nn.BatchNorm2d, nn.ReLU, nn.Conv2d] * 2
    assert [type(module) for module in pre_activated(4, 8, 2)] == kinds


def test_nets_of_as_many_layers_have_the_same_parameters():
    for depth, schemes in ((20, 2), (26, 4), (38, 4), (50, 4)):
        cards = [card(name) for name in available(f"ho-resnet{depth}-*")]
        assert len(cards) == schemes
        assert len({(model.parameters, model.multiply_adds) for model in cards}) == 1


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("ho-resnet26-euler", [4, 4, 4]),
        ("ho-resnet26-midpoint", [2, 2, 2]),
        ("ho-resnet26-rk4", [1, 1, 1]),
        ("ho-resnet50-rk4", [2, 2, 2]),
        ("ho-resnet38-nystrom5", [1, 1, 1]),
    ],
)
def test_stages_and_layers(name, depths):
    with torch.device("meta"):
        net = create(name)
    assert [len(stage) for stage in net.stages] == depths
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules())
    assert f"ho-resnet{layers}-" in name


def test_any_scheme_makes_a_net():
    net = ho_resnet(74, "nystrom5").eval()
    assert net(torch.zeros(1, 3, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize(
    ("depth", "scheme", "message"),
    [
        (26, "simpson", "no scheme 'simpson'; there are euler, midpoint"),
        (27, "euler", r"6n \+ 2 layers"),
        (20, "rk4", r"rk4 nets have 24n \+ 2 layers \(26, 50, \.\.\.\), not 20"),
    ],
)
def test_wrong_options_are_explained(depth, scheme, message):
    with pytest.raises(BadOption, match=message):
        ho_resnet(depth, scheme)


def test_overfits(overfits):
    torch.manual_seed(0)
    overfits(create("ho-resnet26-rk4"), (3, 16, 16), lr=0.02, steps=30)


def test_compiles(compiles):
    compiles(create("ho-resnet26-rk4"), (3, 16, 16))
