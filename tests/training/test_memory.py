import copy
import platform
import resource
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cnnlib.models import create
from cnnlib.training import memory
from cnnlib.training.calls import relus_after_batch_norm

CPU = torch.device("cpu")


def in_place(module: nn.Module) -> list[bool]:
    with memory.relu_in_place(module):
        return [layer.inplace for layer in module.modules() if isinstance(layer, nn.ReLU)]


class ReadsTwice(nn.Module):
    """The first ReLU's input is read again, the second's is the caller's, the third's has no other reader."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.read_again, self.callers, self.alone = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x):
        y = self.conv(x)
        return y + self.read_again(y) + self.callers(x) + self.alone(self.norm(x))


class SharesOne(nn.Module):
    """One ReLU that is called where its input is fresh and where it is not."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

    def forward(self, x):
        return self.relu(self.conv(x)) + self.relu(x)


class OfItsOutput(nn.Module):
    """Tanh's derivative is computed from what it put out."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh(), nn.ReLU())

    def forward(self, x):
        return self.layers(x)


class DrawsItsWay(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

    def forward(self, x):
        return self.relu(self.conv(x)) if torch.rand(()).item() < 2 else self.relu(x)


class CannotBeTraced(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())

    def forward(self, x):
        return self.layers(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (ReadsTwice(), [False, False, True]),
        (SharesOne(), [False]),
        (OfItsOutput(), [False]),
        (CannotBeTraced(), [False]),
        (DrawsItsWay(), [False]),
        (nn.Sequential(nn.ReLU()), [False]),
    ],
)
def test_only_where_nothing_else_reads_the_input(module, expected):
    state = torch.get_rng_state()
    assert in_place(module) == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(layer.inplace for layer in module.modules() if isinstance(layer, nn.ReLU))


class ByKeyword(nn.Module):
    """A ReLU that gets its input by name."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

    def forward(self, x):
        return self.relu(input=self.conv(x))


def test_a_call_by_keyword_is_read_too():
    assert in_place(ByKeyword()) == [True]


@pytest.mark.parametrize(
    "hook",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
@pytest.mark.parametrize(("place", "expected"), [("0.1", [False, True]), ("0", [False, True]), ("1", [False, True])])
def test_what_a_hook_sees_is_not_overwritten(hook, place, expected):
    """At the layer before, at a part that ends with it, and at the ReLU. Tracing shows the hook nothing."""
    module = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)), nn.ReLU(), nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    )
    seen = []
    assert relus_after_batch_norm(module)
    getattr(module.get_submodule(place), hook)(lambda *_: seen.append(1))
    assert in_place(module) == expected
    assert not relus_after_batch_norm(module)
    assert seen == []


class Keeps(nn.Module):
    """What its normalisation puts out can be asked for later."""

    def __init__(self, in_a_list):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()
        self.in_a_list = in_a_list

    def forward(self, x):
        y = self.norm(self.conv(x))
        self.kept = [y] if self.in_a_list else y
        return self.relu(y)


@pytest.mark.parametrize("in_a_list", [False, True])
def test_what_a_network_keeps_is_not_overwritten(in_a_list):
    module = Keeps(in_a_list)
    assert in_place(module) == [False]
    assert not hasattr(module, "kept"), "nothing is left of the tracing"


def test_a_layer_that_was_in_place_stays_so():
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True))
    with memory.relu_in_place(module):
        pass
    assert module[1].inplace


@pytest.mark.parametrize("name", ["resnet20", "preact110", "vgg11-cifar", "densenet-40-12"])
def test_it_changes_no_gradient(name):
    torch.manual_seed(0)
    net = create(name)
    twin = copy.deepcopy(net)
    x = torch.randn(2, 3, 32, 32)
    assert any(in_place(net))
    torch.manual_seed(1)
    net(x).square().mean().backward()
    torch.manual_seed(1)
    with memory.relu_in_place(twin):
        twin(x).square().mean().backward()
    for (key, a), b in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), key


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library has mallopt")
def test_memory_that_is_kept_is_not_mapped_again():
    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            torch.ones(16 << 20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with memory.kept(CPU):
        faults()
        kept = faults()
        held = _resident()
    assert kept < faults() / 10
    assert held - _resident() > 32 << 20, "what was kept is given back"


def test_at_the_end_the_thresholds_are_usual_ones(monkeypatch):
    """A C library does not tell what they are: this one only keeps them."""
    thresholds = {}
    libc = SimpleNamespace(mallopt=thresholds.__setitem__, malloc_trim=lambda pad: None)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: libc)
    with memory.kept(CPU):
        assert min(thresholds.values()) >= 1 << 30
    assert thresholds == {memory.MMAP_THRESHOLD: 32 << 20, memory.TRIM_THRESHOLD: 64 << 20}


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: pytest.fail("it was asked for"))
    with memory.kept(CPU):
        pass
