"""Triton's kernels against PyTorch's own layers.

They need a GPU, or Triton's interpreter, which is slow: ``pip install triton``, then
``TRITON_INTERPRET=1 pytest tests/training/test_kernels.py``.
"""

import copy
import importlib.util
import os

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlib.models import create
from cnnlib.training import TrainingWarning, fit, graphs, hardware, memory
from cnnlib.training.calls import relus_after_batch_norm
from cnnlib.training.graphs import GraphStep, few_maps, kernels_fit
from cnnlib.training.step import Step

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
IS_THERE = importlib.util.find_spec("triton") is not None
computes = pytest.mark.skipif(
    not (IS_THERE and (torch.cuda.is_available() or INTERPRETED)),
    reason="needs Triton, and a GPU or TRITON_INTERPRET=1",
)
on_a_gpu = pytest.mark.skipif(not (IS_THERE and torch.cuda.is_available()), reason="needs Triton and a GPU")
HALF = {"fp16": (torch.float16, 2**-11)} | ({} if INTERPRETED else {"bf16": (torch.bfloat16, 2**-8)})
"""Number formats with their rounding errors. Triton's interpreter multiplies no matrices in bf16."""


@pytest.fixture
def kernels():
    from cnnlib.training import kernels

    return kernels


def distance(ours, exact):
    """How far apart, as a part of the largest number."""
    return ((ours.float() - exact).abs().max() / exact.abs().max()).item()


def exactly_half(*shape, dtype):
    """Random numbers in fp32 that half precision can hold, channels_last."""
    return torch.randn(shape, device=DEVICE).to(dtype).float().contiguous(memory_format=torch.channels_last)


@computes
@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("images", "maps", "out", "size"), [(4, 16, 16, 32), (3, 3, 16, 15), (5, 32, 64, 7), (2, 20, 9, 6), (1, 64, 64, 8)]
)
def test_a_convolution_and_its_gradients(images, maps, out, size, stride, precision, kernels):
    torch.manual_seed(0)
    dtype, rounding = HALF[precision]
    x, weight = exactly_half(images, maps, size, size, dtype=dtype), exactly_half(out, maps, 3, 3, dtype=dtype)
    exact = [value.clone().requires_grad_() for value in (x, weight)]
    with hardware.exact_convolutions():
        y = F.conv2d(*exact, None, stride, 1)
        dy = exactly_half(*y.shape, dtype=dtype)
        y.backward(dy)
    ours = [x.to(dtype).requires_grad_(), weight.clone().requires_grad_()]
    result = kernels.Convolution.apply(*ours, stride)
    result.backward(dy.to(dtype))
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert distance(result, y) < rounding
    assert distance(ours[0].grad, exact[0].grad) < rounding
    assert distance(ours[1].grad, exact[1].grad) < 1e-5, "its sums are kept in fp32"


@computes
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("images", "maps", "size"), [(4, 16, 32), (3, 9, 7), (20, 64, 8), (1, 48, 3)])
def test_batch_norm_and_its_gradients(images, maps, size, relu, kernels):
    torch.manual_seed(0)
    layers = [nn.BatchNorm2d(maps), nn.ReLU()] if relu else [nn.BatchNorm2d(maps)]
    exact = nn.Sequential(*layers).to(DEVICE).train()
    nn.init.uniform_(exact[0].weight)
    nn.init.uniform_(exact[0].bias, -1)
    ours = copy.deepcopy(exact)
    x, dy = exactly_half(2 * images, maps, size, size, dtype=torch.float16).split(images)
    x = (3 + 2 * x).half()
    before, after = x.float().requires_grad_(), x.clone().requires_grad_()
    for _ in range(2):  # the running averages of two batches
        before.grad = after.grad = None
        exact.zero_grad()
        ours.zero_grad()
        y = exact(before)
        y.backward(dy)
        with kernels.few_maps(ours), torch.autocast(DEVICE.type, torch.float16):
            z = ours(after)
        z.backward(dy.half())
    assert z.dtype == torch.float16
    assert distance(z, y) < 2**-10
    assert distance(after.grad, before.grad) < 2**-9
    for (name, mine), theirs in zip(ours.named_parameters(), exact.parameters(), strict=True):
        assert distance(mine.grad, theirs.grad) < 1e-4, name
    for (name, mine), theirs in zip(ours.named_buffers(), exact.buffers(), strict=True):
        assert distance(mine, theirs.float()) < 1e-5, name


@computes
@pytest.mark.parametrize("model", ["resnet20", "preact20", "densenet-40-12"])
def test_gradients_are_as_good_as_those_of_the_usual_kernels(model, kernels):
    torch.manual_seed(0)
    net = create(model).to(DEVICE, memory_format=torch.channels_last).train()
    images, labels = torch.randn(6, 3, 16, 16, device=DEVICE), torch.randint(10, (6,), device=DEVICE)

    def gradients(half):
        net.zero_grad()
        with hardware.exact_convolutions(), torch.autocast(DEVICE.type, torch.float16, enabled=half):
            loss = F.cross_entropy(net(images).float(), labels)
        (2**10 * loss).backward()
        return torch.cat([parameter.grad.flatten() for parameter in net.parameters()])

    exact, usual = gradients(half=False), gradients(half=True)
    with kernels.few_maps(net):
        ours = gradients(half=True)
        assert torch.equal(gradients(half=True), ours), "the order of sums is fixed"
    assert not torch.equal(ours, usual), "other kernels were used"
    assert (ours - exact).norm() < 1.2 * (usual - exact).norm()
    assert not any("forward" in vars(part) for part in net.modules()), "the layers are as before"


@computes
def test_evaluations_and_tensors_that_do_not_fit_are_for_pytorch(kernels, monkeypatch):
    layer, norm = nn.Conv2d(4, 8, 3, padding=1, bias=False).to(DEVICE), nn.BatchNorm2d(4).to(DEVICE)
    x = torch.randn(2, 4, 6, 6, device=DEVICE).half()
    ours = tuple(function._backward_cls for function in (kernels.Convolution, kernels.BatchNorm))

    def has_our_gradient(layer, x):
        with torch.autocast(DEVICE.type, torch.float16):
            return isinstance(layer(x).grad_fn, ours)

    with kernels.few_maps(nn.ModuleList([layer, norm])):
        assert has_our_gradient(layer, x)
        assert has_our_gradient(norm, x)
        assert not has_our_gradient(norm, x.float()), "batch norm of fp32 is fp32, also under autocast"
        assert not isinstance(layer(x.float()).grad_fn, ours), "no half precision was asked for"
        with pytest.raises(RuntimeError, match="channels"):
            has_our_gradient(layer, x[:, :3])
        with pytest.raises(ValueError, match="more than 1 value"):
            has_our_gradient(norm, x[:1, :, :1, :1])
        monkeypatch.setattr(kernels, "MOST_NUMBERS", 2 * 6 * 6 * 16 - 1)
        assert not has_our_gradient(layer, x)
        monkeypatch.undo()
        layer.eval(), norm.eval()
        assert not has_our_gradient(layer, x)
        assert not has_our_gradient(norm, x)


@computes
def test_what_is_not_a_number_stays_so_past_the_relu(kernels):
    net = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()).to(DEVICE)
    x = torch.randn(2, 4, 6, 6, device=DEVICE).half()
    x[0, 1, 2, 3], x[1, 2, 0, 0] = torch.nan, torch.inf
    x.requires_grad_()
    with kernels.few_maps(net), torch.autocast(DEVICE.type, torch.float16):
        y = net(x)
    y.sum().backward()
    for part in (y, x.grad):
        assert part[:, 1:3].isnan().all()
        assert part[:, [0, 3]].isfinite().all()


@computes
def test_other_layers_may_write_into_what_a_convolution_puts_out(kernels):
    net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.ReLU()).to(DEVICE)
    x = torch.randn(2, 4, 6, 6, device=DEVICE)
    with memory.relu_in_place(net), kernels.few_maps(net), torch.autocast(DEVICE.type, torch.float16):
        y = net(x)
    y.sum().backward()
    assert distance(y, net(x)) < 1e-2
    assert net[0].weight.grad.abs().max() > 0


@computes
def test_gradients_of_gradients_are_refused(kernels):
    x = torch.randn(2, 4, 6, 6, device=DEVICE).half().requires_grad_()
    layers = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
    for layer in layers:
        layer.to(DEVICE)
        with kernels.few_maps(layer), torch.autocast(DEVICE.type, torch.float16):
            (gradient,) = torch.autograd.grad(layer(x).float().square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            gradient.float().square().sum().backward()


class SometimesRectified(nn.Sequential):
    """Its ReLU works in training only."""

    def forward(self, x):
        x = self[0](x)
        return self[1](x) if self.training else x


@computes
@pytest.mark.parametrize("frozen", [False, True])
def test_a_batch_norm_leaves_the_relu_to_pytorch_where_it_is_pytorchs_itself(frozen, kernels):
    net = SometimesRectified(nn.BatchNorm2d(4), nn.ReLU()).to(DEVICE)
    x = torch.randn(8, 4, 6, 6, device=DEVICE).half()
    with kernels.few_maps(net), torch.autocast(DEVICE.type, torch.float16):
        net[0].train(not frozen)
        assert net(x).min() == 0
        net.eval()
        assert net(x).min() < 0


@computes
def test_hooks_and_what_others_have_put_in_the_place_of_a_layer_are_left_alone(kernels):
    net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()).to(DEVICE)
    seen = []
    handle = net[1].register_forward_hook(lambda _, __, output: seen.append(output.min().item()))
    net[0].forward = mine = lambda x: 2 * x
    x = torch.randn(2, 4, 6, 6, device=DEVICE).half()
    with kernels.few_maps(net), kernels.few_maps(net), torch.autocast(DEVICE.type, torch.float16):
        assert net(x).min() == 0
    assert seen[0] < 0, "what the batch norm puts out"
    assert net[0].forward is mine
    handle.remove()
    assert not any("forward" in vars(part) for part in net[1:])


@on_a_gpu
def test_trainings_with_these_kernels_repeat_themselves_and_begin_alike(data, recipe, monkeypatch):
    def losses():
        run = fit("resnet20", data, recipe, precision="bf16", log_every=1, progress=False)
        return torch.tensor([point.train_loss for point in run.history])

    ours = losses()
    assert torch.equal(losses(), ours)
    monkeypatch.setattr(hardware, "has_triton", lambda device: False)
    usual = losses()
    assert not torch.equal(usual, ours)
    torch.testing.assert_close(ours[:3], usual[:3], rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("capability", "triton", "precision", "compiled", "answer"),
    [
        ((8, 0), True, "bf16", False, True),
        ((9, 0), True, "fp16", False, True),
        ((7, 5), True, "fp16", False, False),
        ((9, 0), False, "bf16", False, False),
        ((9, 0), True, "fp32", False, False),
        ((9, 0), True, "bf16", True, False),
    ],
)
def test_kernels_are_for_half_precision_where_triton_works_and_not_for_compiled_nets(
    capability, triton, precision, compiled, answer, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: triton or None)
    assert kernels_fit(torch.device("cuda"), precision, compiled) is answer
    assert not kernels_fit(torch.device("cpu"), precision, compiled)


def test_steps_that_are_launched_kernel_by_kernel_use_the_usual_ones(data, recipe, monkeypatch):
    monkeypatch.setattr(graphs, "kernels_fit", lambda *_: True)
    net = create("resnet20")
    with few_maps(Step(net, recipe, data, "bf16", compiled=False)):
        assert not any("forward" in vars(part) for part in net.modules())


@computes
def test_steps_that_become_graphs_use_these_kernels(data, recipe, monkeypatch):
    monkeypatch.setattr(graphs, "kernels_fit", lambda *_: True)
    step = GraphStep.__new__(GraphStep)
    step.step = Step(create("resnet20").to(DEVICE), recipe, data, "bf16", compiled=False)
    with few_maps(step):
        patched = [part for part in step.step.module.modules() if "forward" in vars(part)]
    assert len(patched) == 19 + 19 + 10, "all 3x3 convolutions, batch norms, and ReLUs that follow these"
    assert not any("forward" in vars(part) for part in patched)


@computes
@pytest.mark.parametrize("broken", [16, 64])
def test_where_kernels_cannot_be_built_a_training_takes_the_usual_ones_and_says_so(
    broken, data, recipe, monkeypatch, kernels
):
    net = create("resnet20").to(DEVICE)
    assert kernels.trouble(net, torch.float16) is None
    kernels._try_convolution.cache_clear()
    launch = kernels._launch_convolution

    def build(x, weight, *how):
        if len(weight) == broken:
            raise RuntimeError("no C compiler")
        return launch(x, weight, *how)

    monkeypatch.setattr(kernels, "_launch_convolution", build)
    monkeypatch.setattr(graphs, "kernels_fit", lambda *_: True)
    step = GraphStep.__new__(GraphStep)
    step.step = Step(net, recipe, data, "fp16", compiled=False)
    with pytest.warns(TrainingWarning, match="usual ones are slower: RuntimeError: no C compiler"), few_maps(step):
        assert not any("forward" in vars(part) for part in step.step.module.modules())


@pytest.mark.parametrize(("model", "pairs"), [("resnet20", 10), ("preact20", 19), ("vgg11-cifar", 8)])
def test_relus_that_follow_a_batch_norm_are_found(model, pairs):
    with torch.device("meta"):
        found = relus_after_batch_norm(create(model))
    assert len(found) == pairs
    assert len({*found.values()}) == pairs


class Shared(nn.Module):
    """A ReLU that is called twice, and one whose input has another reader."""

    def __init__(self):
        super().__init__()
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(3) for _ in range(3))
        self.relu, self.own = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        x = self.relu(self.bn2(self.relu(self.bn1(x))))
        x = self.bn3(x)
        return x + self.own(x)


def test_a_relu_that_is_called_twice_or_shares_its_input_is_no_part_of_a_batch_norm():
    assert relus_after_batch_norm(Shared()) == {}


SAME = {"padding": 1, "bias": False}


@computes
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 16, 3, padding=1),
        nn.Conv2d(16, 16, 1, bias=False),
        nn.Conv2d(16, 16, 3, groups=16, **SAME),
        nn.Conv2d(16, 16, 3, bias=False),
        nn.Conv2d(16, 16, 3, dilation=2, **SAME),
        nn.Conv2d(16, 16, 3, padding_mode="reflect", **SAME),
        nn.Conv2d(16, 16, 3, stride=(1, 2), **SAME),
        nn.Conv2d(16, 16, 3, stride=3, **SAME),
        nn.Conv2d(16, 65, 3, **SAME),
        nn.BatchNorm2d(65),
        nn.BatchNorm2d(16, affine=False),
        nn.BatchNorm2d(16, track_running_stats=False),
        nn.BatchNorm2d(16, momentum=None),
        nn.SyncBatchNorm(16),
    ],
    ids=str,
)
def test_layers_of_another_kind_are_for_pytorch(layer, kernels):
    net = nn.Sequential(layer, nn.Conv2d(64, 64, 3, stride=2, **SAME), nn.BatchNorm2d(64))
    with kernels.few_maps(net):
        assert ["forward" in vars(part) for part in net] == [False, True, True]


@computes
def test_batch_norm_has_the_layers_own_epsilon_and_momentum(kernels):
    ours, usual = (nn.BatchNorm2d(4, eps=0.5, momentum=0.01).to(DEVICE) for _ in range(2))
    x = torch.randn(2, 4, 6, 6, device=DEVICE).half()
    with kernels.few_maps(ours), torch.autocast(DEVICE.type, torch.float16):
        y = ours(x)
    assert distance(y, usual(x.float())) < 2**-10
    torch.testing.assert_close(ours.running_mean, usual.running_mean)
    torch.testing.assert_close(ours.running_var, usual.running_var)


@computes
def test_a_convolution_that_is_evaluated_keeps_its_stride(kernels):
    layer = nn.Conv2d(4, 8, 3, stride=2, **SAME).to(DEVICE).eval()
    x = torch.randn(2, 4, 6, 6, device=DEVICE)
    expected = layer(x)
    with kernels.few_maps(layer):
        assert torch.equal(layer(x), expected)


@computes
def test_gradients_may_come_in_any_order_of_memory(kernels):
    torch.manual_seed(0)
    for layer in (nn.Conv2d(4, 4, 3, **SAME).to(DEVICE), nn.BatchNorm2d(4).to(DEVICE)):
        x = torch.randn(2, 4, 6, 6, device=DEVICE).half().requires_grad_()
        dy = torch.randn(2, 4, 6, 6, device=DEVICE).half()
        with kernels.few_maps(layer), torch.autocast(DEVICE.type, torch.float16):
            (ours,) = torch.autograd.grad(layer(x), x, dy)
        (exact,) = torch.autograd.grad(layer(x.float()), x, dy.float())
        assert distance(ours, exact.float()) < 2**-8


@computes
@pytest.mark.parametrize("layer", [nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, stride=2, **SAME)], ids=str)
def test_every_kind_of_kernel_is_tried(layer, kernels, monkeypatch):
    def build(*_):
        raise RuntimeError("no C compiler")

    launch = kernels._launch_convolution
    monkeypatch.setattr(kernels, "_launch_convolution", lambda *how: build() if how[3] == 2 else launch(*how))
    monkeypatch.setattr(kernels.BatchNorm, "backward", build)
    for tried in (kernels._try_convolution, kernels._try_batch_norm):
        tried.cache_clear()
    assert "no C compiler" in (kernels.trouble(layer.to(DEVICE), torch.float16) or "")


@computes
def test_memory_that_runs_out_is_no_trouble_of_the_kernels(kernels, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(kernels, "_try_batch_norm", fail)
    with pytest.raises(torch.OutOfMemoryError):
        kernels.trouble(nn.BatchNorm2d(8), torch.float16)
