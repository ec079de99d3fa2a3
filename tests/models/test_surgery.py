import copy

import pytest
import torch
from torch import nn

from cnnlib.measure import count_parameters
from cnnlib.models import BadOption, card, create
from cnnlib.models.resnet import cifar_plain, cifar_resnet
from cnnlib.models.surgery import block_names, deepen, without_block


def trained(net):
    """A net whose batch norms have statistics and scales that differ from map to map, as after a training."""
    draw = torch.Generator().manual_seed(3)
    for bn in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        for tensor in (bn.running_mean, bn.bias.data):
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=draw))
        for tensor in (bn.running_var, bn.weight.data):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=draw))
    return net.eval()


@pytest.fixture
def images():
    return torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_blocks_are_named_in_order():
    assert block_names(create("plain20")) == [f"stages.{s}.{b}" for s in range(3) for b in range(3)]


@torch.no_grad()
@pytest.mark.parametrize("make", [cifar_plain, cifar_resnet], ids=["plain", "residual"])
def test_deeper_net_has_the_same_outputs_and_the_shape_of_the_deeper_one(make, images):
    torch.manual_seed(0)
    net = trained(make(14))
    weights = copy.deepcopy(net.state_dict())
    deeper = deepen(net, 2, images)
    torch.testing.assert_close(deeper(images), net(images), rtol=1e-4, atol=1e-4)
    other = torch.randn(4, 3, 16, 16)  # not only on the images that the statistics come from
    torch.testing.assert_close(deeper(other), net(other), rtol=1e-4, atol=1e-4)
    expected = make(14 + 6 * 2).state_dict()
    assert {k: v.shape for k, v in deeper.state_dict().items()} == {k: v.shape for k, v in expected.items()}
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), net.state_dict().values(), strict=True))


@torch.no_grad()
def test_in_training_mode_a_residual_net_stays_the_same_and_a_plain_one_nearly(images):
    torch.manual_seed(0)
    plain, residual = cifar_plain(8).train(), cifar_resnet(8).train()
    for net in (plain, residual):
        for _ in range(60):  # running statistics near those of the batch
            net(images)
    for net, tolerance in ((residual, 1e-5), (plain, 0.2)):
        deeper = deepen(net, 1, images)
        assert deeper.training
        assert (deeper(images) - net(images)).abs().max() < tolerance


@torch.no_grad()
@pytest.mark.parametrize("make", [cifar_plain, cifar_resnet], ids=["plain", "residual"])
def test_added_blocks_have_the_number_type_of_the_net(make, images):
    net = trained(make(8)).double()
    deeper = deepen(net, 1, images.double())
    assert {weight.dtype for weight in deeper.parameters()} == {torch.double}
    torch.testing.assert_close(deeper(images.double()), net(images.double()))


def test_deeper_net_can_be_trained(images):
    deeper = deepen(create("resnet20"), 1, images).train()
    deeper(images).square().sum().backward()
    assert deeper.stages[0][-1].f.bn2.weight.grad.abs().sum() > 0
    assert count_parameters(deepen(create("plain20"), 6, images)) == card("plain56").parameters


@pytest.mark.parametrize("name", ["resnet50", "preact44"])
def test_only_basic_blocks_can_be_added(name, images):
    with pytest.raises(BadOption, match="two 3x3 convolutions"):
        deepen(create(name).eval(), 1, images)


@pytest.mark.parametrize(("blocks", "wanted"), [(-1, "at least 0"), (0.5, "a whole number")])
def test_no_fraction_of_a_block_can_be_added(blocks, wanted, images):
    with pytest.raises(BadOption, match=f"blocks must be {wanted}, not {blocks}"):
        deepen(create("resnet20").eval(), blocks, images)


@torch.no_grad()
@pytest.mark.parametrize("name", ["stages.0.1", "stages.1.0"])
@pytest.mark.parametrize("option", ["A", "B", "C"])
def test_residual_net_without_a_block_is_the_net_with_a_silent_branch(name, option, images):
    torch.manual_seed(0)
    net = trained(cifar_resnet(14, shortcut=option))
    silent = copy.deepcopy(net)
    nn.init.zeros_(silent.get_submodule(name).f.bn2.weight)
    nn.init.zeros_(silent.get_submodule(name).f.bn2.bias)
    torch.testing.assert_close(without_block(net, name)(images), silent(images))
    assert not torch.allclose(net(images), silent(images))


@torch.no_grad()
def test_plain_net_without_a_block_passes_its_input_on(images):
    torch.manual_seed(0)
    net = trained(cifar_plain(14))
    maps = net.stages[0][0](net.stem(images))
    expected = net.fc(net.pool(net.stages[2](net.stages[1](maps))).flatten(1))
    torch.testing.assert_close(without_block(net, "stages.0.1")(images), expected)
    halved = without_block(net, "stages.1.0").get_submodule("stages.1.0")(maps)
    assert torch.equal(halved[:, :16], maps[:, :, ::2, ::2])
    assert not halved[:, 16:].any()


def test_bottleneck_nets_can_lose_blocks():
    net = create("resnet50").eval()
    for name in ("stages.0.0", "stages.1.0", "stages.2.3"):
        assert without_block(net, name)(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("preact20", "PreActUnit"),
        ("resnet44-bn-after-addition", "BNAfterAddition"),
        ("resnet44-relu-before-addition", "ReLUBeforeAddition"),
        ("ho-resnet26-rk4", "HigherOrderBlock"),
    ],
)
def test_only_plain_and_residual_blocks_can_be_taken_out(name, kind):
    net = create(name)
    with pytest.raises(BadOption, match=f"only plain and residual blocks can be taken out here, not a {kind}"):
        without_block(net, block_names(net)[-1])


def test_no_such_block():
    with pytest.raises(BadOption, match=r"no block 'stages.3.0'; it has stages.0.0"):
        without_block(create("resnet20"), "stages.3.0")


def test_other_nets_have_no_blocks():
    for use in (block_names, lambda net: without_block(net, "stages.0.0"), lambda net: deepen(net, 1, torch.rand(1))):
        with pytest.raises(BadOption, match="nets have blocks by stage, not a DenseNet"):
            use(create("densenet-bc-22-8"))


@pytest.mark.parametrize("wrong", [[1.0], torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(0, 3, 8, 8)])
def test_a_net_is_deepened_by_images(wrong):
    with pytest.raises(BadOption, match=r"images must be floats \(N, C, H, W\), one or more, not"):
        deepen(create("plain20"), 1, wrong)


@torch.no_grad()
def test_one_small_image_is_enough_to_deepen_a_net():
    image = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))  # one pixel is left in the last stage
    assert deepen(create("plain20"), 1, image).eval()(image).isfinite().all()
