import copy

import pytest
import torch
from torch import nn

from cnnlib.measure import BadArgument, DoesNotFit, block_responses
from cnnlib.models import create
from cnnlib.models.resnet import cifar_plain, cifar_resnet


@pytest.fixture
def images():
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_sizes_are_those_of_the_blocks_run_by_hand(images):
    torch.manual_seed(0)
    net = cifar_resnet(14).train()
    nn.init.constant_(net.stages[0][0].f.bn2.bias, 0.7)  # so that standard deviation and root mean square differ
    found = block_responses(net, images)
    assert [block.block for block in found] == [f"stages.{s}.{b}" for s in range(3) for b in range(2)]
    with torch.no_grad():
        x = net.stem(images)
        for response, block in zip(found, [block for stage in net.stages for block in stage], strict=True):
            inner = block.f.bn1(block.f.conv1(x))
            branch, shortcut = block.f(x), block.shortcut(x)
            assert response.stds == pytest.approx((inner.std(correction=0).item(), branch.std(correction=0).item()))
            assert response.branch == pytest.approx(branch.square().mean().sqrt().item())
            assert response.shortcut == pytest.approx(shortcut.square().mean().sqrt().item())
            x = block(x)
    assert found[0].branch > found[0].stds[1] + 0.1


def test_a_scale_of_batch_norm_is_the_response(images):
    net = cifar_resnet(8)
    nn.init.constant_(net.stages[1][0].f.bn1.weight, 0.25)
    nn.init.zeros_(net.stages[1][0].f.bn2.weight)
    _, second, third = block_responses(net, images)
    assert second.stds == pytest.approx((0.25, 0), abs=1e-3)
    assert second.branch == 0
    assert third.stds == pytest.approx((1, 1), abs=1e-2)


def test_a_plain_block_adds_to_nothing(images):
    blocks = block_responses(cifar_plain(8), images)
    assert [block.shortcut for block in blocks] == [0, 0, 0]
    assert all(block.branch == pytest.approx(1, abs=1e-2) for block in blocks)


def test_blocks_with_squeeze_and_excitation_count_once(images):
    blocks = block_responses(create("se-resnet20"), images)
    assert len(blocks) == 9
    assert all(len(block.stds) == 2 for block in blocks)
    assert all(block.branch < 0.7 for block in blocks)  # after the factors between 0 and 1


def test_no_block_is_dropped(images):
    torch.manual_seed(0)
    assert len(block_responses(create("stochastic-depth-20").train(), images)) == 9


def test_what_the_next_layer_does_in_place_does_not_count(images):
    def responses(inplace):
        torch.manual_seed(0)
        net = cifar_plain(8)
        for module in net.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = inplace
        return block_responses(net, images)

    assert responses(True) == responses(False)


def test_the_net_stays_as_it_is(images):
    net = cifar_resnet(8).eval()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    block_responses(net, images)
    assert not net.training
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(DoesNotFit, match="1x8x8"):
        block_responses(cifar_resnet(8), torch.zeros(2, 1, 8, 8))
    with pytest.raises(DoesNotFit, match=r"3x4x4: Expected more than 1 value per channel"):
        block_responses(cifar_resnet(8), torch.zeros(1, 3, 4, 4))
    assert len(block_responses(cifar_resnet(8), torch.zeros(2, 3, 4, 4))) == 3


@pytest.mark.parametrize("name", ["preact20", "ho-resnet20-euler"])
def test_nets_of_other_blocks_are_refused(name, images):
    with pytest.raises(BadArgument, match="has no plain or residual block"):
        block_responses(create(name), images)
