import copy
import math

import pytest
import torch
from torch import nn

from cnnlib.measure import BadArgument, UnknownLayer, gradient_correlation
from cnnlib.models import create
from cnnlib.models.surgery import block_names


def line(points=16, size=16):
    ends = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    return torch.lerp(ends[:1], ends[1:], torch.linspace(0, 1, points).view(-1, 1, 1, 1))


def test_a_linear_net_has_one_gradient():
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 5), nn.Linear(5, 2))
    assert gradient_correlation(net, line(), ["", "1"]) == pytest.approx((1, 1))


def test_it_is_the_mean_cosine_between_neighbours():
    class Square(nn.Module):
        def forward(self, x):  # its gradient is 2 x
            return x.square().sum((1, 2, 3)).unsqueeze(1)

    angles = torch.tensor([0.0, 0.3, 1.0])
    images = torch.stack([angles.cos(), angles.sin()], 1).view(3, 2, 1, 1)
    expected = (math.cos(0.3) + math.cos(0.7)) / 2
    assert gradient_correlation(Square(), images, [""]) == pytest.approx((expected,))


def test_opposite_gradients_count_as_minus_one():
    class Absolute(nn.Module):
        def forward(self, x):  # its gradient is the sign of x
            return x.abs().sum((1, 2, 3)).unsqueeze(1)

    images = torch.tensor([-1.0, 1.0, 2.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    assert gradient_correlation(Absolute(), images[:2], [""]) == pytest.approx((-1,))
    assert gradient_correlation(Absolute(), images, [""]) == pytest.approx((0,))


def test_it_is_the_gradient_of_the_first_logit():
    class Two(nn.Module):
        def forward(self, x):  # only the second logit has a gradient that changes along the line
            return torch.stack([x.sum((1, 2, 3)), x.square().sum((1, 2, 3))], 1)

    assert gradient_correlation(Two(), line(), [""]) == pytest.approx((1,))


def test_values_are_in_the_order_of_the_layers_that_were_asked_for():
    torch.manual_seed(0)
    net, layers = create("plain20"), ["", "stages.2.2"]
    found = gradient_correlation(net, line(), layers)
    assert found[0] < 0.2 < found[1]
    assert gradient_correlation(net, line(), layers[::-1]) == pytest.approx(found[::-1])


def test_it_measures_where_gradients_are_off():
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    with torch.no_grad():
        assert gradient_correlation(net, line(), [""]) == pytest.approx((1,))


def test_the_random_numbers_of_dropout_are_not_taken_from_the_caller():
    net, state = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(768, 2)), torch.get_rng_state()
    gradient_correlation(net, line(), [""])
    assert torch.equal(torch.get_rng_state(), state)


def test_what_the_next_layer_does_in_place_does_not_count():
    def stack(inplace):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(inplace), nn.Flatten(), nn.Linear(4 * 14 * 14, 2)
        )

    layers = ["0", "1", "2"]
    assert gradient_correlation(stack(True), line(), layers) == gradient_correlation(stack(False), line(), layers)


def test_the_first_layer_may_work_in_place():
    def stack(inplace):
        torch.manual_seed(0)
        return nn.Sequential(nn.Hardswish(inplace), nn.Flatten(), nn.Linear(768, 2))

    layers = ["", "0"]
    assert gradient_correlation(stack(True), line(), layers) == gradient_correlation(stack(False), line(), layers)


def test_plain_nets_shatter_and_residual_ones_do_not():
    found = {}
    for name in ("plain20", "resnet20"):
        torch.manual_seed(0)
        net = create(name)
        found[name] = gradient_correlation(net, line(), ["", *block_names(net)])
    assert found["plain20"][0] < 0.15
    assert found["resnet20"][0] > 0.4
    assert found["plain20"][-1] == pytest.approx(1, abs=0.01)  # only the linear layer comes after


def test_the_network_stays_as_it_is():
    net = create("resnet20").eval()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    images = line(4)
    gradient_correlation(net, images, ["stem"])
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert not net.training
    assert images.grad is None
    assert not images.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


class Branches(nn.Module):
    """Puts out logits and those of a head; one layer does not reach them, one is not called."""

    def __init__(self):
        super().__init__()
        self.main, self.head, self.cut, self.spare = (nn.Linear(768, 2) for _ in range(4))

    def forward(self, x):
        x = x.flatten(1)
        return self.main(x) + self.cut(x).detach(), self.head(x)


def test_the_logits_are_those_of_the_main_answer():
    net = Branches()
    assert gradient_correlation(net, line(), ["", "main"]) == pytest.approx((1, 1))


@pytest.mark.parametrize("layer", ["head", "cut", "spare"])
def test_layers_that_do_not_reach_the_logits_are_named(layer):
    with pytest.raises(BadArgument, match=f"the first logit of Branches does not depend on what '{layer}' puts out"):
        gradient_correlation(Branches(), line(2), ["main", layer])


def test_a_net_that_ignores_the_images_is_told_so():
    class Constant(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)

    with pytest.raises(BadArgument, match="the first logit of Constant does not depend on the images"):
        gradient_correlation(Constant(), line(2), [""])


def test_bad_arguments():
    net = create("resnet20")
    with pytest.raises(BadArgument, match="at least two"):
        gradient_correlation(net, line(1), [""])
    with pytest.raises(BadArgument, match="at least one layer"):
        gradient_correlation(net, line(2), [])
    with pytest.raises(UnknownLayer, match=r"no layer 'stages\.7'"):
        gradient_correlation(net, line(2), ["stages.7"])
