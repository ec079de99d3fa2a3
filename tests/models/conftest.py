"""The harness of the model tests: comparison with an independent implementation, counting, overfitting, compiling.

Each fixture returns a function. The comparison needs no map of names: modules are registered in the same order
everywhere (conv, bn, conv, bn, ..., shortcut last), so the n-th tensor of one network is the n-th of the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import cnnlib  # noqa: F401  first of all: it makes torchvision, an oracle, importable beside any build of PyTorch


def _floats(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in net.state_dict().items() if tensor.is_floating_point()}


def _randomise(net: nn.Module, seed: int = 0) -> None:
    noise = torch.Generator().manual_seed(seed)
    for name, tensor in _floats(net).items():
        if tensor.ndim > 1:
            tensor.normal_(generator=noise).mul_(math.sqrt(2 / tensor[0].numel()))
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=noise)
        else:
            tensor.normal_(generator=noise).mul_(0.1).add_(1.0 if name.endswith("weight") else 0.0)


def _copy_weights(source: nn.Module, target: nn.Module) -> None:
    pairs = zip(_floats(source).items(), _floats(target).items(), strict=True)
    for (their_name, theirs), (our_name, ours) in pairs:
        assert theirs.numel() == ours.numel(), (
            f"{their_name} {tuple(theirs.shape)} has no counterpart: in its place is {our_name} {tuple(ours.shape)}"
        )
        ours.copy_(theirs.view_as(ours))


def _difference(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def _same_logits(
    ours: nn.Module,
    oracle: nn.Module,
    input_size: tuple[int, int, int],
    *,
    train: bool = False,
    tolerance: float = 1e-5,
) -> None:
    _randomise(oracle)
    _copy_weights(oracle, ours)
    ours.train(train)
    oracle.train(train)
    x = torch.randn(2, *input_size, generator=torch.Generator().manual_seed(1))
    logits = []
    for net in (ours, oracle):
        torch.manual_seed(0)  # where both drop the same layers, they drop the same units
        with torch.no_grad():
            logits.append(net(x))
    assert _difference(*logits) < tolerance
    for our_tensor, their_tensor in zip(_floats(ours).values(), _floats(oracle).values(), strict=True):
        torch.testing.assert_close(our_tensor, their_tensor.view_as(our_tensor), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="session")
def randomise() -> Callable:
    """``randomise(net, seed=0)``: fill weights, biases, batch norm parameters and statistics with noise.

    With fresh batch norm statistics many wrong networks agree.
    """
    return _randomise


@pytest.fixture(scope="session")
def copy_weights() -> Callable:
    """``copy_weights(source, target)``: copy all tensors by position, parameters and statistics."""
    return _copy_weights


@pytest.fixture(scope="session")
def difference() -> Callable:
    """``difference(ours, theirs)``: the largest difference, relative to the largest value of ``theirs``."""
    return _difference


@pytest.fixture(scope="session")
def same_logits() -> Callable:
    """``same_logits(ours, oracle, input_size, train=False)``: check that two networks are the same function.

    The oracle gets random weights and statistics and ours a copy by position. In training mode the batch norm
    statistics after the step are compared as well, and both must draw the same random numbers in the same order.
    """
    return _same_logits


@pytest.fixture(scope="session")
def multiply_adds() -> Callable:
    """``multiply_adds(net, input_size)``: count those of all convolutions and linear layers, on the meta device."""

    def count(net: nn.Module, input_size: tuple[int, int, int]) -> int:
        total = 0

        def add(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            nonlocal total
            total += output.numel() * module.weight[0].numel()  # each output value reads one filter's worth of input

        hooks = [m.register_forward_hook(add) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        with torch.no_grad():
            net(torch.empty(1, *input_size, device="meta"))
        for hook in hooks:
            hook.remove()
        return total

    return count


@pytest.fixture(scope="session")
def overfits() -> Callable:
    """``overfits(net, input_size, lr, steps, batch, classes)``: check that a training fits a few random images."""

    def check(
        net: nn.Module,
        input_size: tuple[int, int, int],
        *,
        lr: float = 0.02,
        steps: int = 40,
        batch: int = 8,
        classes: int = 10,
    ) -> None:
        noise = torch.Generator().manual_seed(0)
        images = torch.randn(batch, *input_size, generator=noise)
        labels = torch.arange(batch) % classes
        optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
        net.train()
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.1, f"the loss is {loss.item():.3f} after {steps} steps"
        assert (net(images).argmax(1) == labels).all()

    return check


@pytest.fixture
def compiles() -> Callable:
    """``compiles(net, input_size, backend)``: check that ``torch.compile`` gives the same logits and gradients."""

    def check(net: nn.Module, input_size: tuple[int, int, int], backend: str = "aot_eager", atol: float = 1e-5) -> None:
        net.eval()
        x = torch.randn(2, *input_size, generator=torch.Generator().manual_seed(0))
        torch._dynamo.reset()
        results = []
        for forward in (net, torch.compile(net, backend=backend, fullgraph=True)):
            net.zero_grad()
            logits = forward(x)
            logits.square().mean().backward()
            results.append((logits.detach(), [parameter.grad.clone() for parameter in net.parameters()]))
        torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=atol)

    return check
