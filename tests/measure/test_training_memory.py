"""The memory of a training step against hand counts, and against what autograd's graph holds."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torchvision
from torch import nn

import cnnlib
from cnnlib.measure import BadArgument, DoesNotFit, count_parameters, training_memory

MLP = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
MLP_PARAMETERS = 10 * 20 + 20 + 20 * 5 + 5


def test_every_part_of_a_small_net_by_hand():
    memory = training_memory(MLP, (10,), batch_size=8)
    assert memory.parameters == memory.gradients == memory.optimizer_state == 4 * MLP_PARAMETERS
    assert memory.batch == 4 * 8 * 10
    assert memory.activations == 4 * 8 * 20  # ReLU's result, which the second layer reads; its input is not kept
    assert memory.total == 3 * 4 * MLP_PARAMETERS + 4 * 8 * (10 + 20)


def test_the_peak_of_a_small_net_by_hand():
    """Without gradients of activations that are still needed, the last moment holds the most."""
    memory = training_memory(nn.Sequential(nn.Linear(10, 20, bias=False)), (10,), batch_size=8, optimizer="sgd")
    weight, batch, output = 4 * 10 * 20, 4 * 8 * 10, 4 * 8 * 20
    assert memory.peak == weight + batch + 2 * output + weight  # weight, images, output and its gradient, weight's
    assert training_memory(MLP, (10,), 8).peak - training_memory(MLP, (10,), 8, "sgd").peak == 4 * MLP_PARAMETERS


def test_the_peak_holds_the_buffers():
    """The backward pass holds the most, and there the running means and variances are all that makes a difference."""

    def normalised(**options):
        return nn.Sequential(nn.BatchNorm2d(256, **options), nn.Flatten(), nn.Linear(256 * 2 * 2, 1000))

    with_buffers, without = (
        training_memory(normalised(track_running_stats=kept), (256, 2, 2), batch_size=2) for kept in (True, False)
    )
    means, variances, batches = 4 * 256, 4 * 256, 8
    assert with_buffers.parameters - without.parameters == means + variances + batches
    assert with_buffers.peak - without.peak == means + variances + batches


@pytest.mark.parametrize(
    ("optimizer", "values"), [("sgd", 0), ("sgd-momentum", 1), ("rmsprop", 1), ("adam", 2), ("adamw", 2)]
)
def test_the_state_of_optimizers_is_what_torch_keeps(optimizer, values):
    net = nn.Linear(100, 100)
    build = {
        "sgd": lambda: torch.optim.SGD(net.parameters()),
        "sgd-momentum": lambda: torch.optim.SGD(net.parameters(), momentum=0.9),
        "rmsprop": lambda: torch.optim.RMSprop(net.parameters()),
        "adam": lambda: torch.optim.Adam(net.parameters()),
        "adamw": lambda: torch.optim.AdamW(net.parameters()),
    }[optimizer]()
    net(torch.ones(1, 100)).sum().backward()
    build.step()
    kept = [t for state in build.state.values() for t in state.values() if isinstance(t, torch.Tensor) and t.ndim > 0]
    assert sum(t.numel() for t in kept) == values * count_parameters(net)
    assert training_memory(net, (100,), 1, optimizer).optimizer_state == 4 * values * count_parameters(net)


def saved_by_graph(net: nn.Module, images: torch.Tensor) -> int:
    """Bytes behind the tensors that the nodes of autograd's graph hold, parameters and images left out."""
    own = {t.untyped_storage().data_ptr() for t in (images, *net.parameters(), *net.buffers())}
    blocks, nodes, seen = {}, [net(images).grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        for name in dir(node):
            value = getattr(node, name) if name.startswith("_saved_") else None
            for tensor in value if isinstance(value, tuple) else [value]:
                if isinstance(tensor, torch.Tensor):
                    blocks[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
    return sum(block.nbytes() for address, block in blocks.items() if address not in own)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "shufflenet_v2_x0_5"])
def test_activations_are_what_the_graph_holds(name):
    net = getattr(torchvision.models, name)(num_classes=10).train()
    memory = training_memory(net, (3, 64, 64), batch_size=2)
    assert memory.activations == saved_by_graph(net, torch.rand(2, 3, 64, 64))


def test_it_is_the_same_with_and_without_data():
    class Insists(nn.Module):
        def __init__(self, insist: bool):
            super().__init__()
            self.insist = insist
            self.net = nn.Sequential(
                nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3)
            )

        def forward(self, x):
            if self.insist:
                x.sum().item()  # needs data
            return self.net(x)

    with_data, without = (training_memory(Insists(insist), (3, 16, 16), 4) for insist in (True, False))
    assert dataclasses.replace(with_data, peak=without.peak) == without
    assert with_data.peak == pytest.approx(without.peak, abs=64)  # the sum that it reads


def test_activations_grow_with_the_batch_and_the_rest_does_not():
    net = cnnlib.create("alexnet-cifar")
    one, hundred = (training_memory(net, (3, 32, 32), batch) for batch in (1, 100))
    assert hundred.activations == 100 * one.activations
    assert hundred.batch == 100 * one.batch
    assert hundred.parameters == one.parameters


def test_alexnet_with_its_batch_of_128_nearly_fills_the_3_gb_of_a_gtx_580():
    """Before any work space, with today's in-place backward pass; a second GPU halves all but the exchange."""
    memory = training_memory(cnnlib.create("alexnet"), (3, 227, 227), batch_size=128)
    assert memory.parameters == 4 * 60_965_224
    assert 0.8 * 3e9 < memory.peak < 3e9


def test_half_precision_halves():
    full, half = (training_memory(MLP, (10,), 8, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert (half.total, half.peak) == (full.total / 2, full.peak / 2)


def test_frozen_parameters_have_no_gradient():
    net = nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 5)).requires_grad_(False)
    net[1].requires_grad_(True)
    memory = training_memory(net, (10,), 8, "adam")
    assert (memory.gradients, memory.optimizer_state) == (4 * 105, 8 * 105)
    assert training_memory(net.requires_grad_(False), (10,), 8).activations == 0


def test_errors():
    with pytest.raises(BadArgument, match="sgd-momentum"):
        training_memory(MLP, (10,), 8, "lion")
    with pytest.raises(BadArgument, match="batch_size"):
        training_memory(MLP, (10,), 0)
    with pytest.raises(DoesNotFit, match="10x20"):
        training_memory(MLP, (11,), 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4))  # takes this size, but not one image of it in training
    with pytest.raises(DoesNotFit, match=r"more than 1 value per channel [^;]*$"):
        training_memory(net, (3, 8, 8), 1)


def test_text_and_html():
    memory = training_memory(cnnlib.create("alexnet"), (3, 227, 227), 128)
    lines = str(memory).splitlines()
    assert lines[0] == "AlexNet: a training step, 128 images of 3x227x227"
    assert "parameters                                243.9     10" in lines
    assert '<th scope="row">their gradients</th>' in memory._repr_html_()


@pytest.mark.parametrize("dtype", ["float16", torch.int32, None])
def test_a_type_that_cannot_be_trained_in_is_refused(dtype):
    with pytest.raises(BadArgument, match=f"dtype must be a floating-point type, .* not {dtype!r}"):
        training_memory(MLP, (10,), 8, dtype=dtype)


def test_one_image_is_one_image():
    assert "a training step, 1 image of 10" in str(training_memory(MLP, (10,), batch_size=1))
    assert "batch of 2 images" in str(training_memory(MLP, (10,), batch_size=2))


def test_a_batch_that_is_too_small_is_not_the_image_s_fault():
    with pytest.raises(
        DoesNotFit, match="batch normalisation in training mode needs a larger batch, or a larger image"
    ):
        training_memory(cnnlib.create("unipose-small"), (3, 64, 64), 1)
    assert training_memory(cnnlib.create("unipose-small"), (3, 64, 64), 2).total > 0
