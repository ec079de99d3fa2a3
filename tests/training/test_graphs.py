"""Steps recorded as CUDA graphs, and trainings side by side. Most of it needs a GPU."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.torch_version import TorchVersion

from cnnlib.models import create
from cnnlib.training import bench as bench_module
from cnnlib.training import fit, graphs, hardware
from cnnlib.training.bench import Loop
from cnnlib.training.distributed import Processes
from cnnlib.training.graphs import GraphStep, can_be_recorded, step_for
from cnnlib.training.step import Step

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
NETS = ["resnet20", ("alexnet-cifar", {"dropout": 0.5}), ("googlenet-cifar", {"width": 0.25})]


def curve(run):
    return [(point.train_loss, point.test_loss) for point in run.history]


def test_on_a_cpu_steps_are_taken_one_kernel_at_a_time(tiny, data, recipe):
    assert isinstance(step_for(tiny, recipe, data, "fp32", compiled=False), Step)


@pytest.mark.parametrize(
    ("model", "options", "answer"),
    [
        ("resnet20", {}, True),
        ("stochastic-depth-20", {}, False),
        ("nasnet-a-cifar-6-768", {}, False),
        ("nasnet-a-cifar-6-768", {"drop_path": 0.0}, True),
        ("densenet-40-12", {"dropout": 0.2}, True),
        ("densenet-40-12", {"memory_efficient": True, "dropout": 0.0}, True),
        ("densenet-40-12", {"memory_efficient": True, "dropout": 0.2}, False),
    ],
)
def test_nets_whose_steps_differ_or_read_the_generator_are_not_recorded(model, options, answer):
    with torch.device("meta"):
        assert can_be_recorded(create(model, **options)) is answer


def test_a_net_that_is_told_how_far_the_training_is_may_change_and_is_not_recorded(tiny):
    assert can_be_recorded(tiny)
    tiny.set_progress = lambda progress: None
    assert not can_be_recorded(tiny)


@pytest.mark.parametrize(("version", "answer"), [("2.12.1", False), ("2.13.0", True)])
@pytest.mark.parametrize(
    ("model", "options"), [("alexnet-cifar", {"dropout": 0.5}), ("efficientnet-b0", {"dropout": 0.0})]
)
def test_before_pytorch_2_13_nets_that_draw_are_not_recorded_in_threads(monkeypatch, model, options, version, answer):
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    with torch.device("meta"):
        draws, draws_nothing = create(model, **options), create("alexnet-cifar", dropout=0.0)
    assert can_be_recorded(draws)
    with ThreadPoolExecutor(1) as pool:
        assert list(pool.map(can_be_recorded, [draws, draws_nothing])) == [answer, True]


@pytest.mark.parametrize(
    ("free", "reserved", "emptied"), [(60, 10, False), (60, 61, True), (24, 10, True), (24, 30, True)]
)
def test_memory_is_given_back_if_a_recording_might_lack_it(monkeypatch, free, reserved, emptied):
    calls = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(1))
    graphs.make_room(torch.device("cuda"))
    assert bool(calls) is emptied


@pytest.mark.parametrize("model", ["resnet20", ("alexnet-cifar", {"width": 0.125, "dropout": 0.5})])
def test_trainings_in_threads_have_the_numbers_that_each_has_alone(data, recipe, model):
    def train(seed):
        return curve(fit(model, data, recipe.limited(steps=4), seed=seed, device="cpu", log_every=1, progress=False))

    alone = [train(seed) for seed in range(3)]
    with hardware.reproducible(torch.device("cpu")), ThreadPoolExecutor(3) as pool:
        assert list(pool.map(train, range(3))) == alone


def test_compiled_code_is_not_thrown_away_within_another_trainings_step(tiny, data, recipe, monkeypatch):
    def reset():
        with ThreadPoolExecutor(1) as pool:  # stands for the other training, which wants to begin a step
            free.append(pool.submit(lambda: hardware.SHARED.acquire(blocking=False)).result())

    free = []
    monkeypatch.setattr(torch.compiler, "reset", reset)
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    monkeypatch.setattr(hardware, "SHARED", threading.RLock())
    Step(tiny, recipe, data, "fp32", compiled=True)
    assert free == [False]


@on_a_gpu
@pytest.mark.parametrize("precision", hardware.PRECISIONS)
@pytest.mark.parametrize("model", NETS, ids=str)
def test_a_graph_gives_the_numbers_of_single_kernels(model, precision, data, recipe, monkeypatch):
    def train():
        return curve(fit(model, data, recipe, precision=precision, log_every=1, progress=False))

    recorded = train()
    monkeypatch.setattr(graphs, "can_be_recorded", lambda module: False)
    assert train() == recorded


@on_a_gpu
def test_trainings_side_by_side_draw_their_own_numbers(data, recipe):
    def train(seed):
        with torch.cuda.stream(torch.cuda.Stream()):
            return curve(fit(NETS[1], data, recipe.replace(epochs=20, lr=0.005), seed=seed, progress=False))

    alone = [train(seed) for seed in range(4)]
    with hardware.reproducible(torch.device("cuda")), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(train, range(4))) == alone


@on_a_gpu
def test_the_learning_rate_of_a_graph_changes(data, recipe):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)).cuda()
    step = GraphStep(Step(net, recipe.replace(momentum=0.0, weight_decay=0.0), data, "fp32", compiled=False))
    images, labels = data.train_images[:16].cuda(), data.train_labels[:16].cuda()
    for _ in range(graphs.STEPS_BEFORE + 2):
        step(images, labels, lr=0.1)
    before = net[1].weight.clone()
    step(images, labels, lr=0.0)
    assert torch.equal(net[1].weight, before)
    step(images, labels, lr=0.1)
    assert not torch.equal(net[1].weight, before)


@on_a_gpu
def test_a_training_with_graphs_continues_to_the_same_numbers(data, recipe, tmp_path, monkeypatch):
    def train(**more):
        return curve(fit(NETS[1], data, recipe, log_every=1, progress=False, **more))

    whole = train()
    taken, step = [], GraphStep.__call__

    def dying(self, *arguments):
        taken.append(1)
        if len(taken) == 7:
            raise RuntimeError("killed")
        return step(self, *arguments)

    monkeypatch.setattr(GraphStep, "__call__", dying)
    monkeypatch.setattr("cnnlib.training.engine.STEPS_BETWEEN_READS", {"cuda": 1})
    path = tmp_path / "run.checkpoint"
    with pytest.raises(RuntimeError, match="killed"):
        train(checkpoint=path, checkpoint_every=0.0)
    assert path.exists()
    assert train(checkpoint=path) == whole


@pytest.mark.parametrize(
    ("model", "device", "count", "in_memory", "recorded"),
    [
        ("resnet20", "cuda", 1, True, True),
        ("resnet20", "cpu", 1, True, False),
        ("resnet20", "cuda", 2, True, False),
        ("resnet20", "cuda", 1, False, False),
        ("stochastic-depth-20", "cuda", 1, True, False),
    ],
)
def test_steps_become_graphs_on_a_gpu_of_one_process_where_a_graph_does_the_same(
    data, recipe, monkeypatch, model, device, count, in_memory, recorded
):
    monkeypatch.setattr(graphs, "Step", lambda *_: SimpleNamespace(device=torch.device(device)))
    monkeypatch.setattr(graphs, "GraphStep", lambda step: "graph")
    images = data if in_memory else SimpleNamespace()
    step = step_for(create(model), recipe, images, "fp32", False, Processes(count=count))
    assert (step == "graph") is recorded


@pytest.mark.parametrize(("model", "recorded"), [("resnet20", True), ("stochastic-depth-20", False)])
def test_the_bench_records_what_a_training_records(data, recipe, monkeypatch, model, recorded):
    made = []
    monkeypatch.setattr(bench_module, "Step", lambda *_: None)
    monkeypatch.setattr(bench_module, "GraphStep", made.append)
    bench_module._fused_step(create(model), recipe, data, Loop(graph=True), None)
    assert bool(made) is recorded


def test_counting_operations_leaves_the_network_as_it_was(tiny):
    before = copy.deepcopy(tiny.train().state_dict())
    drawn = torch.get_rng_state()
    hardware.operations_per_image(tiny, torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert tiny.training
    assert torch.equal(torch.get_rng_state(), drawn)
    for name, value in tiny.state_dict().items():
        assert torch.equal(value, before[name]), name
