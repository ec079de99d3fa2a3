import contextlib
import dataclasses
import itertools
import multiprocessing
import signal
import statistics
from multiprocessing.connection import Connection
from types import SimpleNamespace

import pytest
import torch

from cnnlib.models import create
from cnnlib.training import ArgumentError, BenchError, RecipeError, hardware
from cnnlib.training import bench as bench_module
from cnnlib.training.bench import (
    Bench,
    Limits,
    Loop,
    bench,
    bytes_moved,
    cold_rounds,
    convolutions_alone,
    ladder,
    limits,
    train,
)
from cnnlib.training.recipe import RECIPES

CPU = torch.device("cpu")


def speeds(**rows: tuple[float, ...]) -> Bench:
    return Bench("m", 8, "cpu", rows, operations=1e6, bytes=2e6, limits={"fp32": Limits(1e9, 2e9)})


def test_all_loops_train_in_turns_each_in_a_process(data):
    result = bench(data, "alexnet-cifar", batch_size=8, rounds=2, steps=2, workers=1, precision="bf16")
    assert list(result.speeds) == list(ladder(CPU, "bf16", workers=1, compile=False))
    assert all(len(values) == 2 and min(values) > 0 for values in result.speeds.values())
    text = str(result)
    assert "Training alexnet-cifar, batch 8" in text
    assert "(1 thread, bf16, eager)" in text
    assert f"{result.ratio:.2f} times as fast" in text
    assert "a product of matrices in bf16 reaches" in text.replace("\n", " ")
    assert len(result.convolutions) == 2, "in turns with the loops"
    assert f"it would be {statistics.median(result.convolutions):,.0f} images/s" in " ".join(text.split())


@pytest.mark.parametrize("loop", [*ladder(CPU, "bf16", workers=0, compile=False).values()])
def test_each_loop_trains(loop, data):
    images = iter(train(loop, data, "alexnet-cifar", RECIPES["alexnet"].replace(batch_size=32), 0, torch.device("cpu")))
    assert [next(images) for _ in range(2)] == [96, 96]


def test_each_loop_has_one_thing_more_than_the_one_before():
    loops = [*ladder(CPU, "bf16", workers=2, compile=True).values()]
    assert loops[0] == Loop()
    assert loops[-1] == Loop(True, True, True, True, "bf16", True)
    for before, after in itertools.pairwise(loops):
        assert sum(a != b for a, b in zip(vars(before).values(), vars(after).values(), strict=True)) == 1
    assert [*ladder(CPU, "fp32", workers=2, compile=False).values()] == loops[:5]


def test_on_a_gpu_the_step_becomes_a_graph_at_last():
    on_cpu, on_gpu = (ladder(torch.device(name), "bf16", workers=2, compile=True) for name in ("cpu", "cuda"))
    *before, last = on_gpu.items()
    assert dict(before) == on_cpu
    assert last == ("CUDA graph", Loop(True, True, True, True, "bf16", True, graph=True))


def test_where_triton_works_the_graph_gets_kernels_for_few_maps(monkeypatch):
    monkeypatch.setattr(hardware, "has_triton", lambda device: True)
    half, single, compiled = (
        ladder(torch.device("cuda"), precision, workers=2, compile=compile)
        for precision, compile in (("bf16", False), ("fp32", False), ("bf16", True))
    )
    *_, (graph, before), (kernels, last) = half.items()
    assert (graph, kernels) == ("CUDA graph", "kernels for few maps")
    assert last == dataclasses.replace(before, few_maps=True)
    assert [*single][-1] == [*compiled][-1] == "CUDA graph"


def test_ratios_are_medians_of_the_rounds():
    result = speeds(usual=(100.0, 50.0, 100.0), middle=(100.0, 100.0, 150.0), ours=(200.0, 500.0, 300.0))
    assert result.ratio == 3.0
    rows = result.table().rows
    assert rows[1] == ("middle", "100", "100", "150", "1.50", "1.50")
    assert rows[2] == ("ours", "300", "200", "500", "3.00", "2.00")


def test_rates_beside_what_the_machine_can_do():
    text = " ".join(str(speeds(usual=(1.0,), ours=(500.0,))).split())
    assert "takes 1 MFLOP an image" in text
    assert "at 500 images/s that is 0 GFLOP/s and 1.0 GB/s" in text
    assert "in fp32 reaches 1 GFLOP/s; a copy of memory moves 2.0 GB/s" in text


def test_bytes_are_those_of_every_operation(data, monkeypatch):
    monkeypatch.setattr("cnnlib.training.bench.create", lambda name, num_classes: torch.nn.Flatten())
    pixels = 4 * 2 * 3 * 16 * 16
    # the sum reads all pixels, `sum` adds two single numbers; no gradient is asked for
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: None)
    assert bytes_moved("flatten", data, batch_size=2) == pixels + 4 + 4 + 4


def test_limits_count_a_multiplication_and_an_addition_and_bytes_read_and_written(monkeypatch):
    monkeypatch.setattr(bench_module, "_best", lambda *_: 1.0)
    assert limits(CPU, "fp32", size=64) == Limits(operations=2 * 64**3, bytes=2 * 16 * 64**2)


@pytest.mark.parametrize(("steps", "rounds"), [(1, 4), (2, 2), (3, 2), (4, 1), (20, 1)])
def test_on_a_gpu_the_step_is_a_graph_before_rounds_count(steps, rounds):
    assert cold_rounds(torch.device("cuda"), steps) == rounds
    assert cold_rounds(CPU, steps) == 1


def test_the_usual_loop_is_that_of_many_tutorials(data, monkeypatch):
    recipe = RECIPES["resnet-cifar"].replace(batch_size=32)
    loader = next(bench_module._epochs_of_loader(data, recipe, workers=0))
    assert [type(part).__name__ for part in loader.dataset.transform.transforms] == [
        *("ToPILImage", "RandomCrop", "RandomHorizontalFlip", "ToTensor", "Normalize")
    ]
    options = {}

    class Noting(torch.optim.SGD):
        def __init__(self, parameters, **chosen):
            options.update(chosen)
            super().__init__(parameters, **chosen)

    monkeypatch.setattr(torch.optim, "SGD", Noting)
    take = bench_module._plain_step(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(4)), recipe, data, Loop()
    )
    images, labels = next(iter(loader))
    assert isinstance(take(images, labels), float), "it reads the loss in every step"
    assert options == {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}


@pytest.mark.parametrize(("loop", "reads"), [(Loop(on_device=True), 0), (Loop(on_device=True, unread=True), 1)])
def test_our_loop_reads_its_losses_once_an_epoch(data, monkeypatch, loop, reads):
    read, tolist = [], torch.Tensor.tolist
    recipe = RECIPES["alexnet"].replace(batch_size=32)
    epochs = iter(train(loop, data, "alexnet-cifar", recipe, 0, CPU))
    next(epochs)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: read.append(len(self)) or tolist(self))
    next(epochs)
    assert read.count(3) == reads, "three steps"


def test_a_gpu_is_waited_for_by_name(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    second = torch.device("cuda", 1)
    assert bench_module._best(lambda: None, second, seconds=0.1) < 0.001
    assert set(waited) == {second}, "not the current one"


def test_the_limits_are_measured():
    measured = limits(torch.device("cpu"), "fp32", size=64, seconds=0.01)
    assert measured.operations > 1e7
    assert measured.bytes > 1e6


def test_convolutions_alone_count_each_layer_once(data, monkeypatch):
    timed = []
    monkeypatch.setattr("cnnlib.training.bench._best", lambda run, *_: timed.append(run.args) or 0.001)
    # nineteen convolutions of six kinds: of the images, of 16 maps, to 32, of 32, to 64, of 64
    assert convolutions_alone("resnet20", data, 4, "fp32") == pytest.approx(4 / 0.019)
    layers, images, wanted, _ = zip(*timed, strict=True)
    assert len(timed) == len({(repr(layer), x.shape) for layer, x in zip(layers, images, strict=True)}) == 6
    assert [len(w) for w in wanted] == [1] + 5 * [2]  # nobody needs the gradient of the first layer's images
    assert all(x.is_contiguous(memory_format=torch.channels_last) and len(x) == 4 for x in images)


def test_the_bench_says_what_the_convolutions_leave_to_gain():
    loops = {"usual": (50.0, 40.0, 50.0), "ours": (90.0, 90.0, 90.0)}
    result = Bench("m", 8, "cpu", loops, 1e6, 2e6, {"fp32": Limits(1, 1)}, (120.0, 110.0, 130.0))
    assert "would be 120 images/s, 2.60 times the usual loop." in " ".join(str(result).split())


def test_a_loop_that_fails_says_so(data):
    with pytest.raises(BenchError, match=r"“usual loop, 0 workers” failed: InputTooSmall: .* at least"):
        bench(data, "alexnet", batch_size=8, rounds=1, steps=1, workers=0)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("lenet5", ArgumentError, "lenet5 takes images with 1 channel, and those of CIFAR-10 have 3"),
        ("alexnet", BenchError, "failed: InputTooSmall"),
    ],
)
def test_a_model_that_does_not_take_the_images_is_refused_at_once(data, monkeypatch, model, error, message):
    monkeypatch.setattr(bench_module, "_in_a_process", lambda *_: pytest.fail("a process was started"))
    with pytest.raises(error, match=message):
        bench(data, model, batch_size=8, rounds=1, steps=1, workers=0)


def test_ctrl_c_while_a_process_starts_is_not_its_own(monkeypatch):
    handlers, process = [], multiprocessing.get_context("spawn").Process
    monkeypatch.setattr(process, "start", lambda self: handlers.append(signal.getsignal(signal.SIGINT)))
    monkeypatch.setattr(process, "join", lambda self: None)
    before = signal.getsignal(signal.SIGINT)
    with bench_module._in_a_process("loop", ()):
        assert signal.getsignal(signal.SIGINT) is before
    assert handlers == [signal.SIG_IGN]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"precision": "fp8"}, "fp32, bf16, fp16"),
    ],
)
def test_bad_arguments(data, options, message):
    with pytest.raises(ArgumentError, match=message):
        bench(data, "alexnet-cifar", **options)


def test_too_few_images(data):
    with pytest.raises(RecipeError, match="97"):
        bench(data, "alexnet-cifar", batch_size=97)


def test_what_is_reported_is_what_was_measured(data, monkeypatch):
    begun, order, alone = [], [], iter([1.0, 10.0, 20.0])

    @contextlib.contextmanager
    def in_a_process(label, arguments):
        begun.append(arguments)
        turns = iter([1.0, 100.0, 200.0])
        yield lambda: order.append(label) or next(turns)

    monkeypatch.setattr(bench_module, "_in_a_process", in_a_process)
    monkeypatch.setattr(bench_module, "convolutions_alone", lambda *_: next(alone))
    monkeypatch.setattr(bench_module, "limits", lambda device, precision: precision)
    options = {"rounds": 2, "steps": 3, "workers": 1, "device": "cpu", "precision": "bf16", "compile": True}
    result = bench(data, "alexnet-cifar", batch_size=8, **options)
    assert {*result.speeds.values()} == {(100.0, 200.0)}, "the first round warms up"
    assert order == 3 * list(result.speeds), "they take turns"
    assert result.convolutions == (10.0, 20.0)
    assert result.bytes == bytes_moved("alexnet-cifar", data, 8) / 8, "of one image"
    net = create("alexnet-cifar", num_classes=len(data.classes))
    assert result.operations == hardware.operations_per_image(net, torch.zeros(1, 3, 16, 16))
    assert result.limits == {"fp32": "fp32", "bf16": "bf16"}
    assert result.hardware.endswith("(1 thread, bf16, compiled)")
    assert [loop for loop, *_ in begun] == [*ladder(CPU, "bf16", workers=1, compile=True).values()]
    for _, images, model, recipe, workers, device, threads in begun:
        assert len(images.train_images) == len(images.train_labels) == 3 * 8, "an epoch is these steps"
        assert (model, recipe.batch_size, workers, device, threads) == ("alexnet-cifar", 8, 1, "cpu", 1)


@pytest.mark.parametrize("loop", [*ladder(CPU, "bf16", workers=0, compile=False).values()])
def test_each_loop_has_what_its_name_says(loop, data, monkeypatch):
    seen, kept, network = [], [], bench_module._network

    @contextlib.contextmanager
    def keep(device):
        kept.append(device)
        yield

    def watched(*arguments):
        net = network(*arguments)
        relus = [part for part in net.modules() if isinstance(part, torch.nn.ReLU)]

        def note(_, inputs):
            weight = next(net.parameters())
            seen.append(
                {
                    "channels_last": [x.is_contiguous(memory_format=torch.channels_last) for x in (weight, *inputs)],
                    "exact": torch.backends.cudnn.deterministic,
                    "less_memory": [bool(kept), any(relu.inplace for relu in relus)],
                    "half": torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16,
                    "normalised": inputs[0].min().item() < 0,
                }
            )

        net.register_forward_pre_hook(note)
        return net

    monkeypatch.setattr(bench_module, "_network", watched)
    monkeypatch.setattr(bench_module.memory, "kept", keep)
    epochs = train(loop, data, "alexnet-cifar", RECIPES["alexnet"].replace(batch_size=32), 0, CPU)
    with contextlib.closing(epochs):
        next(epochs)
    assert seen[-1] == {
        "channels_last": 2 * [loop.channels_last],
        "exact": loop.unread,
        "less_memory": 2 * [loop.less_memory],
        "half": loop.precision == "bf16",
        "normalised": True,
    }


def test_our_loop_augments_every_epoch_anew(data):
    epochs = bench_module._epochs_on_device(data, RECIPES["resnet-cifar"].replace(batch_size=32))
    first, second = (torch.cat([images for images, _ in next(epochs)]) for _ in range(2))
    assert first.shape == second.shape == data.train_images.shape
    assert not torch.equal(first, second)


def test_the_loader_of_the_usual_loop_keeps_its_workers_and_shuffles(data):
    recipe = RECIPES["resnet-cifar"].replace(batch_size=40)
    loader = next(bench_module._epochs_of_loader(data, recipe, workers=2))
    assert (loader.num_workers, loader.persistent_workers) == (2, True), "they start once, and not in every epoch"
    assert (loader.batch_size, loader.drop_last, len(loader)) == (40, True, 2)
    assert isinstance(loader.sampler, torch.utils.data.RandomSampler)


def test_a_turn_is_timed_without_the_wait_for_it_and_a_failure_is_told(data, monkeypatch):
    clock, sent, asked = [0.0], [], iter(["go", "go", "go"])

    def receive():
        clock[0] += 100  # the others' turns
        for word in asked:
            return word
        raise EOFError

    def epochs(*_):
        for _ in range(2):
            clock[0] += 2
            yield 10
        raise ValueError("too small")

    monkeypatch.setattr(bench_module, "train", epochs)
    monkeypatch.setattr(bench_module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    connection = SimpleNamespace(recv=receive, send=sent.append)
    bench_module._take_turns(connection, Loop(), data, "m", RECIPES["alexnet"], 0, "cpu", 3)
    assert sent == [5.0, 5.0, "ValueError: too small"]
    assert torch.get_num_threads() == 3


@pytest.fixture
def patience():
    """A test that waits for ever fails after half a minute."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for ever"))
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("patience")
def test_a_process_that_dies_is_an_error_and_no_endless_wait(monkeypatch):
    monkeypatch.setattr(bench_module, "_take_turns", Connection.close)  # and that is all that it does
    with bench_module._in_a_process("the loop", ()) as turn:
        for _ in range(2):
            with pytest.raises(BenchError, match="the process of “the loop” has died; is there enough memory"):
                turn()


@pytest.mark.usefixtures("patience")
def test_what_a_process_says_of_its_failure_is_the_error(monkeypatch):
    monkeypatch.setattr(bench_module, "_take_turns", Connection.send)
    with (
        bench_module._in_a_process("the loop", ("ValueError: too small",)) as turn,
        pytest.raises(BenchError, match="“the loop” failed: ValueError: too small"),
    ):
        turn()


def test_the_best_of_several_runs_counts(monkeypatch):
    clock, seconds = [0.0], iter([5.0, 2.0, 3.0])

    def run():
        clock[0] += next(seconds)

    monkeypatch.setattr(bench_module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    assert bench_module._best(run, CPU, seconds=10.0) == 2.0


def test_limits_are_those_of_a_matrix_product_in_this_precision(monkeypatch):
    products = []

    def best(run, *_):
        with contextlib.suppress(AttributeError):
            products.append(run())
        return 1.0

    monkeypatch.setattr(bench_module, "_best", best)
    monkeypatch.setattr(hardware, "precision_for", lambda device: "fp32")
    single, half = bench_module.limits(CPU, "fp32"), bench_module.limits(CPU, "bf16")
    assert (single.operations, half.operations) == (2 * 2048**3, 2 * 256**3), "bf16 is emulated"
    assert (products[0].dtype, products[2].dtype) == (torch.float32, torch.bfloat16)
    assert products[0][0, 0] == 2048, "a sum of products"
