"""Times of training steps: in turns, with counts beside them."""

from types import SimpleNamespace

import pytest
import torch

from cnnlib.measure import count_parameters, multiply_adds
from cnnlib.models import create
from cnnlib.training import ArgumentError, BenchError, StepTimes, hardware, step_times, timing
from cnnlib.training.bench import Loop, bytes_moved, traffic
from cnnlib.training.timing import Work

NAMES = ("alexnet-cifar", "wrn-10-2.75")


@pytest.fixture
def times(data):
    return step_times(data, NAMES, batch_size=4, rounds=2, device="cpu", precision="fp32")


def test_each_network_is_timed_in_each_round(times):
    assert list(times.seconds) == list(times.work) == list(NAMES)
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in times.seconds.values())
    assert "batch 4" in str(times)
    assert "(1 thread, fp32, eager)" in times.hardware or "threads, fp32, eager)" in times.hardware


def test_networks_take_turns(data, monkeypatch):
    order = []

    def train(loop, data, model, recipe, workers, device):
        assert loop == Loop(on_device=True, channels_last=True, unread=True, less_memory=True, precision="bf16")
        assert len(data.train_labels) == recipe.batch_size == 4
        while True:
            order.append(model)
            yield 4

    monkeypatch.setattr("cnnlib.training.timing.train", train)
    step_times(data, NAMES, batch_size=4, rounds=2, device="cpu", precision="bf16")
    assert order == 3 * list(NAMES)


def test_on_a_gpu_the_steps_are_those_of_a_training(data, monkeypatch):
    """A training there uses the kernels for few maps, where there is Triton."""
    loops = []
    monkeypatch.setattr(timing.settings, "device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(timing.hardware, "precision", lambda *_: "bf16")
    monkeypatch.setattr("cnnlib.training.bench.kernels_fit", lambda *_: True)
    monkeypatch.setattr(timing, "train", lambda loop, *_: loops.append(loop) or (_ for _ in ()))
    with pytest.raises(StopIteration):
        step_times(data, NAMES[:1], batch_size=4)
    assert [(loop.graph, loop.few_maps, loop.precision) for loop in loops] == [(True, True, "bf16")]


def test_a_failure_leaves_the_switches_as_they_were(data, monkeypatch):
    """Each network's turns have cuDNN's switches to themselves, and find those of the one before."""

    def train(loop, data, model, recipe, workers, device):
        with hardware.exact_convolutions():
            yield 4
            if model == NAMES[0]:
                raise KeyboardInterrupt
            yield 4

    monkeypatch.setattr(timing, "train", train)
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    with pytest.raises(KeyboardInterrupt):
        step_times(data, NAMES, batch_size=4, rounds=2, device="cpu", precision="fp32")
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32) == before


def test_cold_rounds_are_not_counted(data, monkeypatch):
    clock = [0.0]

    def train(loop, data, model, recipe, workers, device):
        for seconds in (5.0, 4.0, 3.0, 2.0, 1.0):
            clock[0] += seconds
            yield 4

    monkeypatch.setattr(timing, "train", train)
    monkeypatch.setattr(timing, "cold_rounds", lambda device, steps: 2 + steps)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    times = step_times(data, NAMES, batch_size=4, rounds=2, device="cpu", precision="fp32")
    assert times.seconds == dict.fromkeys(NAMES, (2.0, 1.0))


def test_work_is_that_of_the_network_for_these_classes(times, data):
    for name in NAMES:
        with torch.device("meta"):
            net = create(name, num_classes=len(data.classes))
        work = times.work[name]
        assert work.parameters == count_parameters(net)
        assert work.multiply_adds == multiply_adds(net, tuple(data.train_images.shape[1:]))
        assert work.bytes == bytes_moved(name, data, 4) / 4
        assert work.operations == traffic(name, data, 4).operations


def test_deeper_networks_have_more_operations(data):
    counts = [traffic(f"wrn-{shape}", data, 2).operations for shape in ("10-2.75", "16-1.8125", "22-1.4375")]
    assert counts[1] - counts[0] == counts[2] - counts[1] > 0  # three blocks each


def test_ratios_are_medians_of_rounds():
    work = Work(1, 2, 3, 4e6)
    times = StepTimes("a laptop", 8, {"a": (1.0, 2.0, 1.0), "b": (2.0, 1.0, 3.0)}, {"a": work, "b": work})
    assert times.ratio("b") == 2.0
    assert times.table().rows[1] == ("b", "1", "2", "3", "4.0", "2,000", "1,000", "2.00")
    assert "medians of 3 rounds" in str(times)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"models": ()}, r"one or more names in a list, such as \['resnet20'\], not \(\)"),
        ({"models": "resnet20"}, "in a list, .* not 'resnet20'"),
        ({"rounds": 0}, "rounds must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"batch_size": 10**6}, "CIFAR-10 has 96 training images, too few for a batch of 1000000"),
    ],
)
def test_nothing_to_time_is_refused(data, wrong, said):
    with pytest.raises(BenchError, match=said):
        step_times(data, **{"models": NAMES, **wrong})


def test_a_network_of_other_channels_is_refused(data):
    with pytest.raises(ArgumentError, match="lenet5 takes images with 1 channel, and those of CIFAR-10 have 3"):
        step_times(data, ["resnet20", "lenet5"], batch_size=4)


def test_an_unknown_precision_is_refused(data):
    with pytest.raises(ArgumentError, match="fp32, bf16, fp16, not 'fp8'"):
        step_times(data, NAMES, batch_size=4, precision="fp8")
