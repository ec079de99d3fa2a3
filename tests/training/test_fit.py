import contextlib
import copy
import dataclasses
import functools
import math
import re
import subprocess
import sys
import threading
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch.nn import functional as F

import cnnlib
from cnnlib.data import DataError, normalise
from cnnlib.measure import BadArgument
from cnnlib.models import BadOption, create, layers
from cnnlib.settings import UnknownBudget
from cnnlib.training import (
    RECIPES,
    ArgumentError,
    Diverged,
    OutOfMemory,
    ProcessError,
    Recipe,
    RecipeError,
    Run,
    batches,
    engine,
    evaluate,
    evaluation,
    fit,
    hardware,
)
from cnnlib.training import step as step_module
from cnnlib.training.distributed import Processes
from cnnlib.training.errors import lone_images_explained, lost_readers_explained
from cnnlib.training.network import build

SMALL = ("alexnet-cifar", {"width": 0.125})
SMALL_RESNET = "resnet20"


def train(model, data, recipe, **options):
    return fit(model, data, recipe, progress=False, **options)


def curve(run):
    return [(p.step, p.lr, p.train_loss, p.train_error, p.test_loss, p.test_error) for p in run.history]


def test_a_tiny_network_learns(tiny, data, recipe):
    before = evaluate(tiny, data).error
    run = train(tiny, data, recipe.replace(epochs=10))
    assert run.test_error < 5 < before
    assert run.train_error < 5
    assert run.history[0].train_loss > run.history[-1].train_loss


def test_same_seed_same_numbers(data, recipe):
    first, second = (train(SMALL, data, recipe, seed=3) for _ in range(2))
    assert curve(first) == curve(second)
    for a, b in zip(first.module.state_dict().values(), second.module.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert curve(train(SMALL, data, recipe, seed=4)) != curve(first)


def test_the_seed_fixes_the_weights_and_what_was_drawn_before_does_not_matter(data, recipe):
    torch.manual_seed(1)
    first = train(SMALL, data, recipe.limited(steps=2))
    torch.manual_seed(2)
    torch.rand(100)
    assert curve(train(SMALL, data, recipe.limited(steps=2))) == curve(first)


def test_the_callers_settings_are_restored(tiny, data, recipe):
    torch.manual_seed(11)
    expected = torch.rand(5)
    torch.manual_seed(11)
    deterministic = torch.backends.cudnn.deterministic
    train(SMALL, data, recipe.limited(steps=2))
    assert torch.equal(torch.rand(5), expected)
    assert torch.backends.cudnn.deterministic == deterministic
    assert torch.get_num_threads() == 1


def test_generators_of_other_devices_are_left_alone(data, recipe, monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("generators of GPUs were seeded"))
    train(SMALL, data, recipe.limited(steps=2))


def test_a_training_on_a_gpu_seeds_the_generators_of_cpu_and_gpu(monkeypatch):
    current, seeded = [], []
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext(current.append(device)))
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: seeded.append((current[-1], seed)))
    second = torch.device("cuda", 1)
    with torch.random.fork_rng(devices=[]):
        hardware.seed_generators(second, 5)
        assert torch.initial_seed() == 5
    assert seeded == [(second, 5)]


def test_seeds_do_not_share_streams(data, recipe):
    orders = [batches.Batches(data, recipe.replace(augment=False), seed) for seed in (0, 1)]
    first, second = orders[0][0][1], orders[1][0][1]
    assert not torch.equal(first, second)
    assert not torch.equal(orders[0][0][1], orders[0][6][1]), "the second epoch has another order"
    assert len({hardware.stream(seed, *key) for seed in range(20) for key in ((0,), (0, 1), (1, 1), (1, 2))}) == 80


def test_an_epoch_shows_every_image_once(data, recipe):
    shown = batches.Batches(data, recipe.replace(augment=False, batch_size=16), seed=0)
    images = torch.cat([shown[step][0] for step in range(6)])
    labels = torch.cat([shown[step][1] for step in range(6)])
    key = lambda images, labels: sorted(zip(images.double().sum((1, 2, 3)).tolist(), labels.tolist(), strict=True))  # noqa: E731
    assert key(images, labels) == key(data.train_images, data.train_labels)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_the_incomplete_last_batch_is_left_out(data, recipe):
    run = train(("alexnet-cifar", {"width": 0.125}), data, recipe.replace(batch_size=40, epochs=2))
    assert run.steps == 4, "96 images are two batches of 40"
    assert [point.step for point in run.history] == [2, 4]


def test_augmentation_only_if_the_recipe_says_so(data, recipe):
    plain = batches.Batches(data, recipe.replace(augment=False), seed=0)[0][0]
    moved = batches.Batches(data, recipe, seed=0)[0][0]
    assert not torch.equal(plain, moved), "order is the same, pixels are not"
    originals = {image.numpy().tobytes() for image in data.train_images}
    assert all(image.contiguous().numpy().tobytes() in originals for image in plain)


def test_crops_and_flips_are_others_in_every_epoch_and_for_every_seed(data, recipe, monkeypatch):
    monkeypatch.setattr(batches, "_order", lambda count, *_: torch.arange(count))
    first, second = (batches.Batches(data, recipe, seed) for seed in (0, 1))
    assert not torch.equal(first[0][0], second[0][0])
    assert not torch.equal(first[0][0], first[6][0]), "the second epoch"


def test_padding_is_zero_after_normalisation(data, recipe):
    """To the nearest grey level."""
    padded = batches.Batches(dataclasses.replace(data, mean=(0.2, 0.4, 0.47)), recipe, seed=0).images
    colour = torch.tensor([51, 102, 120]).view(3, 1, 1)
    assert torch.equal(padded, (F.pad(data.train_images - colour, (4, 4, 4, 4)) + colour).to(torch.uint8))


def test_reflection_padding_is_that_of_pytorch(data, recipe):
    padded = batches.Batches(data, recipe.replace(padding="reflect"), seed=0).images
    assert torch.equal(padded, F.pad(data.train_images.float(), (4, 4, 4, 4), mode="reflect").to(torch.uint8))


def test_points_of_the_learning_curve(data, recipe):
    run = train(SMALL, data, recipe.limited(epochs=2.5), log_every=4, evaluate_every=2)
    assert [p.step for p in run.history] == [4, 6, 8, 12, 15]
    assert [p.test_error is not None for p in run.history] == [False, False, False, True, True]
    assert run.history[-1].epoch == 2.5
    assert [p.lr for p in run.history] == pytest.approx([0.05, 0.05, 0.05, 0.005, 0.005])
    assert run.test.error == run.history[-1].test_error
    assert all(a.seconds < b.seconds for a, b in zip(run.history, run.history[1:], strict=False))


def test_the_curve_does_not_depend_on_where_it_is_read(data, recipe, monkeypatch):
    expected = curve(train(SMALL, data, recipe))
    monkeypatch.setattr(engine, "STEPS_BETWEEN_READS", {"cpu": 5})
    assert curve(train(SMALL, data, recipe)) == expected


def test_the_numbers_are_those_of_the_plain_loop(tiny, data, recipe):
    recipe = recipe.replace(augment=False, momentum=0.9, nesterov=True)
    tiny.drop.p = 0.0
    plain = copy.deepcopy(tiny)
    run = train(tiny, data, recipe)
    optimizer = torch.optim.SGD(plain.parameters(), lr=1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    shown, losses = batches.Batches(data, recipe, seed=0), []
    for number in range(24):
        images, labels = shown[number]
        optimizer.param_groups[0]["lr"] = 0.01 if number < 2 else 0.05 if number < 12 else 0.005
        loss = F.cross_entropy(plain(normalise(images.contiguous(), data.mean, data.std)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert [p.train_loss for p in run.history] == pytest.approx(
        [sum(losses[i : i + 6]) / 6 for i in range(0, 24, 6)], rel=1e-4
    )
    for a, b in zip(plain.parameters(), run.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def losses_of_the_usual_loop(module, optimizer, data, recipe):
    """The loss of every step of a plain loop over the batches that seed 0 gives."""
    shown, losses = batches.Batches(data, recipe, seed=0), []
    for number in range(recipe.iterations):
        images, labels = shown[number]
        loss = F.cross_entropy(module(normalise(images.contiguous(), data.mean, data.std)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_residual_net_gets_the_losses_of_the_usual_loop(data):
    recipe = Recipe(name="test", iterations=8, batch_size=16, lr=0.001, weight_decay=1e-4)
    run = train(SMALL_RESNET, data, recipe, log_every=1)
    torch.manual_seed(0)
    plain = create(SMALL_RESNET, num_classes=4)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4)
    losses = losses_of_the_usual_loop(plain, optimizer, data, recipe)
    assert [point.train_loss for point in run.history] == pytest.approx(losses, rel=1e-3)


def test_the_run_says_what_it_was(data, recipe):
    run = train(("AlexNet_CIFAR", {"width": 0.125, "activation": nn.Tanh}), data, recipe, seed=5, budget="smoke")
    assert (run.model, run.overrides) == ("alexnet-cifar", {"width": 0.125, "activation": "nn.Tanh"})
    kinds = [type(part) for part in run.module.modules()]
    assert nn.Tanh in kinds
    assert nn.ReLU not in kinds
    assert run.parameters == sum(p.numel() for p in run.module.parameters())
    assert [*run.module.modules()][-1].out_features == 4, "as many classes as the data has"
    assert (run.seed, run.budget, run.data, run.train_images, run.steps) == (5, "smoke", "CIFAR-10", 96, 24)
    assert (run.threads, run.precision, run.compiled, run.device_type) == (1, "fp32", False, "cpu")
    assert run.versions["torch"] == torch.__version__
    assert run.versions["cnnlib"] == cnnlib.__version__
    assert run.seconds > 0
    assert run.images_per_second > 0
    assert (run.train.n, run.test.n) == (96, 40)


@pytest.mark.parametrize(
    ("steps", "broken_off", "speed"), [(24, None, 16), (24, 10, 16 * (8 + 14) / (8 * 1 + 14 * 2)), (1, None, 16 / 50)]
)
def test_the_speed_is_that_of_the_steps_alone(data, recipe, tmp_path, monkeypatch, steps, broken_off, speed):
    """A step takes 1 s, an evaluation 100, a checkpoint 10. The first step of a session, which compiles, takes 50.

    In a second session a step takes 2 s. A training of a single step has no other speed than that.
    """
    recipe = recipe.limited(steps=steps)
    clock, seconds, taken, stop = [0.0], [1], [], [broken_off]

    def step(self, *arguments, step=step_module.Step.__call__):
        if len(taken) + 1 in stop:
            raise KeyboardInterrupt
        clock[0] += seconds[0] if taken else 50
        taken.append(1)
        return step(self, *arguments)

    def evaluation(*arguments, evaluate=engine.evaluate, **options):
        clock[0] += 100
        return evaluate(*arguments, **options)

    monkeypatch.setattr(engine, "time", SimpleNamespace(perf_counter=lambda: clock[0], monotonic=time.monotonic))
    monkeypatch.setattr(step_module.Step, "__call__", step)

    def write(*arguments, write=engine.checkpoints.write):
        clock[0] += 10
        return write(*arguments)

    monkeypatch.setattr(engine, "evaluate", evaluation)
    monkeypatch.setattr(engine.checkpoints, "write", write)
    options = {"checkpoint": tmp_path / "x", "checkpoint_every": 0}
    if broken_off:
        with pytest.raises(KeyboardInterrupt):
            train(SMALL, data, recipe, **options)
        seconds[0] = 2
        taken.clear()
        stop.clear()
    assert train(SMALL, data, recipe, **options).images_per_second == pytest.approx(speed)


def test_convolutions_are_exact_and_the_same_every_time(tiny, data, recipe):
    """cuDNN's flags are those of the process, so a machine without a GPU shows what one would see."""
    seen, flags = set(), ("deterministic", "benchmark", "allow_tf32")
    note = lambda *_: seen.add(tuple(getattr(torch.backends.cudnn, flag) for flag in flags))  # noqa: E731
    tiny.register_forward_hook(note)
    before = [getattr(torch.backends.cudnn, flag) for flag in flags]
    train(tiny, data, recipe.limited(steps=1))
    evaluate(tiny, data)
    assert seen == {(True, False, False)}
    assert [getattr(torch.backends.cudnn, flag) for flag in flags] == before


TF32 = """
import sys, torch
from cnnlib.training.hardware import exact_convolutions
cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
exec(sys.argv[1])
mkldnn = torch.backends.mkldnn
parts = (cudnn.conv, cudnn.rnn, matmul, mkldnn.conv, mkldnn.rnn, mkldnn.matmul)
new = lambda: tuple(part.fp32_precision for part in parts)
before = new()
with exact_convolutions(), exact_convolutions():
    assert set(new()) == {"ieee"}, new()
    assert not cudnn.allow_tf32 and not matmul.allow_tf32
assert new() == before, (before, new())
"""


@pytest.mark.parametrize(
    "setting",
    [
        "pass",
        "cudnn.conv.fp32_precision = 'ieee'",
        "torch.backends.fp32_precision = 'ieee'",
        "torch.backends.fp32_precision = 'tf32'",
        "torch.backends.mkldnn.conv.fp32_precision = 'bf16'",
        "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
        "torch.set_float32_matmul_precision('high')",
    ],
)
def test_fp32_is_not_tf32_whatever_the_caller_has_set(setting):
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this PyTorch has the old switches only")
    subprocess.run([sys.executable, "-c", TF32, setting], check=True)


def test_a_set_without_test_images_is_refused_before_the_training(tiny, data, recipe):
    empty = dataclasses.replace(data, test_images=data.test_images[:0], test_labels=data.test_labels[:0])
    before = copy.deepcopy(tiny.state_dict())
    with pytest.raises(DataError, match="there are no test images to evaluate on"):
        train(tiny, empty, recipe)
    for name, tensor in tiny.state_dict().items():
        assert torch.equal(tensor, before[name])
    with pytest.raises(DataError, match="there are no test images to evaluate on"):
        evaluate(tiny, empty)


def test_an_activation_can_be_given_by_name(data, recipe):
    by_name = train(("alexnet-cifar", {"width": 0.125, "activation": "nn.Tanh"}), data, recipe.limited(steps=2))
    by_class = train(("alexnet-cifar", {"width": 0.125, "activation": nn.Tanh}), data, recipe.limited(steps=2))
    assert curve(by_name) == curve(by_class)
    assert by_name.overrides == by_class.overrides


def test_a_module_is_trained_in_place(tiny, data, recipe):
    before = tiny.conv.weight.clone()
    run = train(tiny, data, recipe.limited(steps=1))
    assert run.module is tiny
    assert not tiny.training, "ready to be asked"
    assert run.model == "Tiny"
    assert not torch.equal(before, tiny.conv.weight)
    assert all(parameter.grad is None for parameter in tiny.parameters()), "a GPU's memory is free again"


@pytest.mark.parametrize(
    ("read_every", "factor", "said"),
    [(1, math.nan, "loss is nan"), (4, math.nan, "loss is nan"), (1, 1e5, r"loss is \S+")],
)
def test_a_loss_that_is_not_a_number_or_exploded_names_the_step(data, recipe, monkeypatch, read_every, factor, said):
    monkeypatch.setattr(engine, "STEPS_BETWEEN_READS", {"cpu": read_every})
    calls = []

    def poisoned(logits, labels):
        calls.append(1)
        return F.cross_entropy(logits, labels) * (factor if len(calls) == 7 else 1)

    functional = type("functional", (), {"cross_entropy": staticmethod(poisoned)})
    monkeypatch.setattr(step_module, "F", functional)
    with pytest.raises(Diverged, match=rf"{said} at step 7 of 24 .*lr=0.005, .*warmup=0.05 and warmup_lr=0.005$"):
        train(SMALL, data, recipe)


def test_a_published_learning_rate_is_named_where_a_higher_one_took_its_place(tiny, data):
    recipe = RECIPES["alexnet"].replace(batch_size=16, lr=1e30)
    with pytest.raises(Diverged, match=r"lr=0\.01, on the command line --lr 0\.01, or in Python .*warmup_lr=0\.01$"):
        train(tiny, data, recipe)


def test_a_real_divergence(tiny, data, recipe):
    with pytest.raises(Diverged, match=r"at step \d+ of 24"):
        train(tiny, data, recipe.replace(lr=1e6))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        MemoryError(),
    ],
)
def test_out_of_memory_says_which_batch_size_to_try(data, recipe, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(step_module.Step, "__call__", fail)
    with pytest.raises(OutOfMemory, match=re.escape("batches of 16: try batch_size=8 and lr=0.025, a")):
        train(SMALL, data, recipe)
    with pytest.raises(OutOfMemory, match="not even one image"):
        train(SMALL, data, recipe.replace(batch_size=1))
    with pytest.raises(OutOfMemory, match=re.escape("(on the command line --batch-size 8 --lr 0.025)")):
        train(SMALL, data, recipe)


def test_other_errors_pass_unchanged(data, recipe, monkeypatch):
    def fail(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(step_module.Step, "__call__", fail)
    with pytest.raises(RuntimeError, match=r"^something else$"):
        train(SMALL, data, recipe)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log_every": 0}, "log_every"),
        ({"evaluate_every": 0}, "evaluate_every"),
        ({"precision": "half"}, "fp32, bf16, fp16"),
        ({"seed": -1}, "seed must be a whole number from 0 .* not -1"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"log_every": "x"}, "log_every must be a whole number, not 'x'"),
        ({"log_every": 2.5}, "log_every must be a whole number, not 2.5"),
        ({"checkpoint_every": -1}, "checkpoint_every must be a number of seconds, at least 0, not -1"),
        ({"checkpoint_every": "x"}, "checkpoint_every must be a number"),
        ({"data": "cifar10"}, r"such as cnnlib.load_data\('cifar10'\), not 'cifar10'"),
        ({"recipe": {"lr": 0.1}}, r"recipe must be a cnnlib.Recipe, or the name of one .*, not {'lr': 0.1}"),
        ({"recipe": None}, "recipe must be a cnnlib.Recipe, .* not None"),
        ({"model": None}, "model must be a name, such as 'resnet20', a pair .*, or a network, not None"),
        ({"model": nn.Flatten}, "model must be a name, .*, not <class"),
        ({"model": ("resnet20",)}, r"a pair of name and overrides, .* not \('resnet20',\)"),
        ({"model": ("resnet20", None)}, "a pair of name and overrides"),
        ({"model": "lenet5"}, "lenet5 takes images with 1 channel, and those of CIFAR-10 have 3; take another network"),
    ],
)
def test_bad_arguments(data, recipe, options, message):
    with pytest.raises(ArgumentError, match=message):
        train(**{"model": SMALL, "data": data, "recipe": recipe} | options)


def test_a_budget_that_there_is_not_is_refused(data, recipe):
    with pytest.raises(UnknownBudget, match="unknown budget 'bla'; choose one of smoke"):
        train(SMALL, data, recipe, budget="bla")


def test_a_seed_of_numpy_is_recorded_as_a_number(tiny, data, recipe, tmp_path):
    run = train(tiny, data, recipe.limited(steps=1), seed=np.int64(3))
    assert Run.load(run.save(tmp_path / "run.json")).seed == 3


def test_a_network_that_puts_out_no_classes_is_refused(data, recipe):
    with pytest.raises(
        ArgumentError, match=r"unipose-small does not put out classes, and .* has nothing else to learn"
    ):
        train("unipose-small", data, recipe)


@pytest.mark.parametrize(
    "model", [("alexnet-cifar", {"num_classes": 3}), nn.Sequential(nn.Flatten(), nn.Linear(768, 3))]
)
def test_a_network_with_fewer_outputs_than_classes_is_refused(data, recipe, model):
    with pytest.raises(ArgumentError, match="CIFAR-10 has 4 classes, and the network 3 outputs: give it num_classes=4"):
        train(model, data, recipe)


class Puts(nn.Module):
    """A network that puts out something else than logits."""

    def __init__(self, form):
        super().__init__()
        self.body, self.form = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), form

    def forward(self, x):
        return self.form(self.body(x))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.Flatten(), "Flatten has nothing to train; let a parameter require its gradient"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).requires_grad_(False), "has nothing to train"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).double(), r"weights in float64, .* module\.float\(\)"),
        (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), "has lazy layers without shapes; run it once"),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 16), nn.Flatten()), "Sequential cannot be trained: .* got 3 channels"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 17), nn.Flatten()), "the smallest square input that it takes is 17x17"),
        (lambda: nn.Conv2d(3, 4, 16), r"must put out one tensor \(images, classes\), .* a tensor \(2, 4, 1, 1\)"),
        (lambda: Puts(lambda x: x[:, 0]), r"a tensor \(2,\)"),
        (lambda: Puts(lambda x: (x, x)), "puts out a tuple"),
        (lambda: Puts(lambda x: {"logits": x}), "puts out a dict"),
    ],
)
def test_a_network_of_ones_own_that_does_not_suit_is_refused(data, recipe, tmp_path, model, message):
    with pytest.raises(ArgumentError, match=message):
        train(model(), data, recipe, checkpoint=tmp_path / "x")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("form", [lambda x: (x, x), lambda x: x[:, :3]])
def test_what_is_no_answer_cannot_be_evaluated(data, form):
    with pytest.raises(ArgumentError, match="the network"):
        evaluate(Puts(form), data)


def test_what_is_no_tensor_cannot_be_predicted(data):
    with pytest.raises(ArgumentError, match=r"the network must put out one tensor .* and puts out a tuple"):
        evaluation.predict(Puts(lambda x: (x, x)), data.test_images, data)


class OwnHeads(nn.Module):
    auxiliary_weight = 0.3

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))

    def forward(self, x):
        logits = self.body(x)
        return layers.WithAuxiliary(logits, (logits,)) if self.training else logits


def make_dependent_on_a_hook():
    net = nn.Sequential(nn.Linear(768, 4))
    net.register_forward_pre_hook(lambda _, images: images[0].flatten(1))
    return net


def make_impossible_to_copy():
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    net.lock = threading.Lock()
    return net


def make_with_a_script():
    return nn.Sequential(nn.Flatten(), torch.jit.trace(nn.Linear(768, 4), torch.zeros(1, 768)))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "make",
    [OwnHeads, make_dependent_on_a_hook, make_impossible_to_copy, make_with_a_script],
    ids=lambda make: make.__name__,
)
def test_a_network_of_ones_own_that_suits_is_trained(data, recipe, make):
    assert train(make(), data, recipe.limited(steps=2)).steps == 2


@pytest.mark.parametrize("processes", [1, 4])
def test_a_single_image_cannot_be_normalised_in_batches(data, recipe, monkeypatch, processes):
    net = nn.Sequential(nn.Conv2d(3, 4, 16), nn.BatchNorm2d(4), nn.Flatten())
    monkeypatch.setattr(engine.Processes, "check_batch", lambda *_: None)
    with pytest.raises(ArgumentError, match=r"at least 2 images in each process's share .* --batch-size 2, or more"):
        train(net, data, recipe.replace(batch_size=1))
    with pytest.raises(ArgumentError, match=f"batch_size={2 * processes}"), lone_images_explained(processes):
        net(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match=r"^something else$"), lone_images_explained(processes):
        raise ValueError("something else")


def test_compilation_that_does_not_work_is_one_clear_error(data, recipe, monkeypatch):
    def fail(*_):
        raise TorchDynamoException("no working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(
        ArgumentError, match=r"does not work here: no working C\+\+ compiler found; .*compile=False, on"
    ):
        train(SMALL, data, recipe, compile=True)


def test_values_of_numpy_are_recorded_as_numbers(data, recipe):
    given = {"num_classes": np.int64(4), "width": np.float32(0.125), "dropout": np.float64(0.5)}
    run = train(("alexnet-cifar", given), data, recipe.limited(steps=1))
    assert run.overrides == {"num_classes": 4, "width": 0.125, "dropout": 0.5}
    _, overrides, _ = build(("densenet-40-12", {"memory_efficient": np.True_}), data, 0, torch.device("cpu"))
    assert overrides["memory_efficient"] is True


def test_a_value_without_a_name_that_stays_is_refused(data, recipe, tmp_path):
    def leaky():
        return nn.LeakyReLU(0.1)

    with pytest.raises(BadOption, match=r"leaky at 0x\w+> has no name by which .*; give a class such as nn.Tanh, or"):
        train(("alexnet-cifar", {"width": 0.125, "activation": leaky}), data, recipe, checkpoint=tmp_path / "x")
    assert not [*tmp_path.iterdir()]
    named = {"width": 0.125, "activation": functools.partial(nn.LeakyReLU, 0.1)}
    assert "LeakyReLU'>, 0.1)" in train(("alexnet-cifar", named), data, recipe.limited(steps=1)).overrides["activation"]


def test_an_activation_that_does_not_exist(data, recipe):
    with pytest.raises(BadOption, match=r"torch.nn has no 'Tahn'"):
        train(("alexnet-cifar", {"activation": "nn.Tahn"}), data, recipe)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ({"dropout": math.nan}, "dropout=nan: .*got nan"),
        ({"activation": nn.GLU}, "activation=.*GLU.*: .*Halving dimension"),
    ],
)
def test_an_option_with_which_no_image_is_taken(data, recipe, override, said, tmp_path):
    """The network can be built; that it does not work is said before anything is written."""
    with pytest.raises(BadOption, match=rf"^alexnet-cifar cannot be trained with {said}"):
        train(("alexnet-cifar", override), data, recipe, checkpoint=tmp_path / "x")
    assert not [*tmp_path.iterdir()]


def test_a_name_that_is_no_recipe(data):
    with pytest.raises(RecipeError, match="resnet-cifar"):
        train(SMALL, data, "resnet")


def test_lower_precision_trains_to_about_the_same(data, recipe):
    full, half = (train(SMALL, data, recipe, precision=precision) for precision in ("fp32", "bf16"))
    assert half.precision == "bf16"
    assert all(p.dtype == torch.float32 for p in half.module.parameters())
    assert half.history[0].train_loss == pytest.approx(full.history[0].train_loss, rel=0.02)
    assert curve(half) != curve(full)
    assert (half.test, half.train) == tuple(evaluate(half.module, data, split) for split in ("test", "train"))


def test_a_first_step_left_out_by_loss_scaling_leaves_no_momentum(tiny, data, recipe):
    step = step_module.Step(tiny, recipe, data, precision="fp16", compiled=False)
    step.scaler = torch.amp.GradScaler("cpu", init_scale=1e38)
    before = tiny.conv.weight.clone()
    step(data.train_images[:16], data.train_labels[:16], lr=0.1)
    assert torch.equal(tiny.conv.weight, before)
    assert all((state["momentum_buffer"] == 0).all() for state in step.optimizer.state.values())


def test_auxiliary_heads_add_to_the_loss_with_their_weight(tiny, data, recipe):
    class TwoHeads(nn.Module):
        auxiliary_weight = 0.3

        def __init__(self):
            super().__init__()
            self.trunk, self.head = tiny, nn.Linear(3, 4)

        def forward(self, x):
            return layers.WithAuxiliary(self.trunk(x), (self.head(x.mean((2, 3))),) * 2)

    tiny.drop.p = 0.0
    net = TwoHeads()
    step = step_module.Step(net, recipe, data, precision="fp32", compiled=False)
    images, labels = data.train_images[:16], data.train_labels[:16]
    with torch.no_grad():
        logits, heads = net(normalise(images, data.mean, data.std))
        losses = [F.cross_entropy(answer, labels) for answer in (logits, *heads)]
        right = (logits.argmax(1) == labels).sum()
    before = net.head.weight.clone()
    loss, correct = step(images, labels, lr=0.1)
    torch.testing.assert_close(loss, losses[0] + 0.3 * losses[1] + 0.3 * losses[2])
    assert correct == right
    assert not torch.equal(net.head.weight, before)


def test_a_net_is_told_how_far_the_training_is(tiny, data, recipe):
    told = []
    tiny.set_progress = told.append
    train(tiny, data, recipe.limited(steps=4))
    assert told == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("fpu avx512f avx512_bf16", "bf16"),
        ("fpu amx_bf16 amx_tile", "bf16"),
        ("fpu avx2 avx512f", "fp32"),
        ("", "fp32"),
    ],
)
def test_half_precision_on_processors_that_have_it(flags, precision, monkeypatch):
    monkeypatch.undo()  # of what holds for all tests of trainings
    monkeypatch.setattr(hardware, "_cpu", {"flags": flags}.get)
    assert hardware.precision_for(torch.device("cpu")) == precision


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_half_precision_on_gpus(capability, precision, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert hardware.precision_for(torch.device("cuda")) == precision


def test_compilation_is_decided_from_counts_and_device(monkeypatch):
    monkeypatch.setattr(hardware, "has_triton", lambda device: device.type == "cuda")
    image = torch.zeros(1, 3, 32, 32)
    operations = hardware.operations_per_image(create("resnet20"), image)
    assert operations == pytest.approx(0.242e9, rel=0.02), "counted elsewhere with another tool"

    def pays(steps, device="cuda"):
        return hardware.compiling_pays(torch.device(device), operations=operations * 128 * steps, layers=20)

    assert not pays(64_000)
    assert pays(2_000_000)
    assert not pays(2_000_000, device="cpu")
    monkeypatch.setattr(hardware, "has_triton", lambda device: False)
    assert not pays(2_000_000)


def test_what_was_compiled_is_said(data, recipe, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module, **_: compiled.append(module) or module)
    assert not train(SMALL, data, recipe.limited(steps=1)).compiled
    assert compiled == []
    run = train(SMALL, data, recipe.limited(steps=1), compile=True)
    assert run.compiled
    assert compiled == [run.module]


def test_stand_ins_are_named_loudly(data, recipe):
    data = dataclasses.replace(data, name="Shapes-10", stands_in_for="CIFAR-10")
    run = train(SMALL, data, recipe.limited(steps=1))
    assert run.stands_in_for == "CIFAR-10"
    assert "on SHAPES-10, IN PLACE OF CIFAR-10" in str(run)


def test_no_warnings(tiny, data, recipe):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(tiny, data, recipe)


def test_what_a_network_draws_is_another_in_every_step_and_for_every_seed(tiny, data, recipe):
    begun = []
    tiny.register_forward_pre_hook(lambda net, _: begun.append(torch.initial_seed()) if net.training else None)
    for seed in (0, 1):
        train(tiny, data, recipe, seed=seed)
    assert len(begun) == len(set(begun)) == 2 * 24


def test_a_module_in_evaluation_mode_is_trained_in_training_mode(tiny, data, recipe):
    before = tiny.norm.running_mean.clone()
    train(tiny.eval(), data, recipe.limited(steps=1))
    assert not torch.equal(tiny.norm.running_mean, before)


def test_the_training_error_of_a_point_is_the_share_of_wrong_answers(tiny, data):
    with torch.no_grad():
        tiny.head.weight.zero_()
        tiny.head.bias.copy_(torch.tensor([0.0, 50.0, 0.0, 0.0]))  # always class 1, that of a quarter of the images
    run = train(tiny, data, Recipe("test", batch_size=16, lr=1e-9, epochs=1))
    assert [point.train_error for point in run.history] == [75.0]


def test_the_loss_is_computed_in_single_precision(tiny, data, recipe):
    step = step_module.Step(tiny, recipe, data, "bf16", compiled=False)
    loss, _ = step(data.train_images[:16], data.train_labels[:16], lr=0.1)
    assert loss.dtype == torch.float32


def test_momentum_is_the_recipes(plain, data):
    recipe = Recipe("test", iterations=6, batch_size=16, lr=0.05, momentum=0.5, augment=False)
    usual = copy.deepcopy(plain)
    run = train(plain, data, recipe, log_every=1)
    optimizer = torch.optim.SGD(usual.parameters(), lr=0.05, momentum=0.5)
    losses = losses_of_the_usual_loop(usual, optimizer, data, recipe)
    assert [point.train_loss for point in run.history] == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize(
    "said",
    [
        "DataLoader worker (pid 1) is killed by signal: Killed. ",
        "DataLoader worker (pid(s) 1) exited unexpectedly",
    ],
)
def test_a_lost_reader_of_images_is_explained(said):
    with pytest.raises(ProcessError, match=r"\); there may be too little .*--workers N"), lost_readers_explained():
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="Terminated"), lost_readers_explained():  # by torchrun
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated. ")


def test_only_the_first_process_deletes_a_checkpoint(plain, data, recipe, monkeypatch, tmp_path):
    (tmp_path / "x").touch()
    monkeypatch.setattr(engine.distributed, "join", lambda device: Processes(rank=1))
    with pytest.raises(Diverged):
        fit(plain, data, recipe.replace(lr=1e30), checkpoint=tmp_path / "x", progress=False)
    assert (tmp_path / "x").exists()


def test_compilation_is_decided_for_all_steps_of_a_process(tiny, data, recipe, monkeypatch):
    """Its share of the images, three times the forward pass of each, and the layers that have weights."""
    asked, zeros = [], torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, **_: zeros(*shape))  # there may be no GPU
    monkeypatch.setattr(hardware, "compiling_pays", lambda device, **counts: asked.append(counts) or True)
    gpu, alone, two = SimpleNamespace(type="cuda"), SimpleNamespace(count=1), SimpleNamespace(count=2)
    training = SimpleNamespace(module=tiny, data=data, recipe=recipe, steps=24, device=gpu, processes=alone)
    assert engine._Training._compiling_pays(training)
    training.processes = two
    assert engine._Training._compiling_pays(training)
    image = hardware.operations_per_image(tiny, zeros(1, 3, 16, 16))
    assert asked == [{"operations": image * 16 * 24 / count, "layers": 2} for count in (1, 2)]
    training.device = torch.device("cpu")
    assert not engine._Training._compiling_pays(training)
    assert len(asked) == 2


def test_a_network_without_values_is_not_trained(tiny, data, recipe):
    with pytest.raises(BadArgument, match="on the device 'meta', without values"):
        train(tiny.to("meta"), data, recipe)
