"""Two processes, started by torchrun, that train together."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from cnnlib.training import (
    CheckpointMismatch,
    ProcessError,
    Recipe,
    RecipeError,
    Run,
    checkpoint,
    engine,
    evaluate,
    fit,
)
from cnnlib.training.distributed import Processes, join
from cnnlib.training.interrupts import Interrupts

PROGRAM = """
    import dataclasses, json, os, signal, sys, torch
    sys.path.insert(0, {tests!r})
    import cnnlib.data
    from cnnlib.__main__ import main
    from cnnlib.training import Recipe, distributed, engine, fit, step
    from conftest import Tiny, make_plain, make_tiny_data
    data, recipe = make_tiny_data(test=41), {recipe!r}
    rank = int(os.environ["RANK"])
    cnnlib.data.load = lambda name, root=None, *, progress=True: data
    engine.fit.__kwdefaults__["checkpoint_every"] = 0
"""
COMMAND = [
    "train",
    "alexnet-cifar",
    "--set",
    "width=0.125",
    "--batch-size",
    "16",
    "--steps",
    "20",
    "--precision",
    "fp32",
]


ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}


def curve(run):
    return [(p.step, p.lr, p.train_loss, p.train_error, p.test_loss, p.test_error) for p in run.history]


def torchrun(folder, recipe, script, *arguments):
    """Run a script in two processes in a folder."""
    prelude = PROGRAM.format(tests=str(Path(__file__).parent), recipe=recipe)
    (folder / "program.py").write_text(textwrap.dedent(prelude) + textwrap.dedent(script))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "program.py"]
    agent = subprocess.Popen(
        [*command, *arguments], cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        out, err = agent.communicate(timeout=600)
    finally:
        agent.terminate()  # and with it the two processes, if they hang
        agent.wait()
    return subprocess.CompletedProcess(command, agent.returncode, out, err)


@pytest.fixture(scope="module")
def recipe():
    return Recipe(name="test", epochs=3, batch_size=16, lr=0.05, weight_decay=1e-4, milestones=(0.5,))


@pytest.fixture
def data(tiny_data):
    """An odd number of test images, as in the program."""
    return tiny_data(test=41)


@pytest.fixture(scope="module")
def folder(recipe, tmp_path_factory):
    """Where two processes have trained several networks, one after the other."""
    folder = tmp_path_factory.mktemp("distributed")
    done = torchrun(
        folder,
        recipe,
        """
        from cnnlib.errors import CnnlibError
        from cnnlib.models.stochastic_depth import StochasticDepthBlock
        from torch import nn

        class Skipping(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = nn.Sequential(*(StochasticDepthBlock(3, 3, survival=0.5) for _ in range(3)))
                self.head = nn.Linear(3, 4)

            def forward(self, x):
                return self.head(self.blocks(x).mean((2, 3)))

        class Idle(nn.Module):
            def __init__(self):
                super().__init__()
                self.used, self.idle = make_plain(), nn.Linear(3, 3)

            def forward(self, x):
                return self.used(x)

        def error_of(**options):
            try:
                fit(make_plain(), data, progress=False, **{"recipe": recipe} | options)
            except CnnlibError as error:
                return f"{type(error).__name__}: {error}"

        torch.manual_seed(rank)  # DistributedDataParallel makes the weights equal
        nets = {"plain": make_plain(), "tiny": Tiny(), "skipping": Skipping(), "idle": Idle()}
        for name, net in nets.items():
            run = fit(net, data, recipe, precision="fp32", checkpoint=f"{name}{rank}.checkpoint", progress=True)
            run.save(f"{name}{rank}.json")
            torch.save(net.state_dict(), f"{name}{rank}.pt")
        errors = [error_of(recipe=recipe.replace(batch_size=15)), error_of(seed=rank)]
        with open(f"errors{rank}.json", "w") as file:
            json.dump(errors, file)
        sys.exit(main(sys.argv[1:]))
        """,
        *COMMAND,
        "--out",
        "whole",
    )
    assert done.returncode == 0, done.stderr
    (folder / "out").write_text(done.stdout)
    return folder


def test_two_processes_have_the_learning_curve_of_one(folder, data, recipe, plain):
    alone = fit(plain, data, recipe, progress=False)
    together = Run.load(folder / "plain0.json")
    assert (alone.processes, together.processes) == (1, 2)
    assert together.hardware.count("2 processes, 1 thread") == 1
    for one, two in zip(alone.history, together.history, strict=True):
        assert two.train_loss == pytest.approx(one.train_loss, rel=1e-5)
        assert (two.step, two.lr, two.train_error) == (one.step, one.lr, one.train_error)
        assert two.test_loss == pytest.approx(one.test_loss, rel=1e-5)
        assert two.test_error == one.test_error
    weights = torch.load(folder / "plain0.pt")
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(weights[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["plain", "tiny", "skipping", "idle"])
def test_all_processes_end_with_the_same(folder, name):
    first, second = (Run.load(folder / f"{name}{rank}.json") for rank in (0, 1))
    assert curve(first) == curve(second)
    assert (first.train, first.test) == (second.train, second.test)
    for a, b in zip(*(torch.load(folder / f"{name}{rank}.pt").values() for rank in (0, 1)), strict=True):
        assert torch.equal(a, b)


def test_the_shared_evaluation_is_exact(folder, data, tiny):
    """41 images are no even number, and the running averages are those of the first process."""
    tiny.load_state_dict(torch.load(folder / "tiny0.pt"))
    run, expected = Run.load(folder / "tiny0.json"), evaluate(tiny, data)
    assert run.test == dataclasses.replace(expected, loss=pytest.approx(expected.loss, rel=1e-6))
    assert run.test.n == 41


def test_only_the_first_process_writes(folder):
    assert [(folder / f"plain{rank}.checkpoint").exists() for rank in (0, 1)] == [True, False]
    assert sorted(path.suffix for path in (folder / "whole").iterdir()) == [".json", ".pt"]
    assert (folder / "out").read_text().count("test error") == 1


def test_what_does_not_suit_all_processes_is_one_clear_error(folder):
    for rank in (0, 1):
        uneven, other = json.loads((folder / f"errors{rank}.json").read_text())
        assert uneven == (
            "RecipeError: 2 processes cannot take equal shares of a batch of 15: start another number of processes, or "
            "use a batch size of 14 or 16, which is then no longer the recipe's"
        )
        assert other == (
            "ProcessError: process 1 (here) was not started with the settings of process 0 (there): seed is 0 there "
            "and 1 here. Give the same command, and the same data, on every host"
        )


def test_a_killed_process_ends_the_others_and_the_same_command_continues(folder, data, recipe, tmp_path):
    killed = torchrun(
        tmp_path,
        recipe,
        """
        count, call = [0], step.Step.__call__
        def mortal(self, *arguments):
            count[0] += 1
            if count[0] == 11 and rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(self, *arguments)
        step.Step.__call__ = mortal
        sys.exit(main(sys.argv[1:]))
        """,
        *COMMAND,
    )
    assert killed.returncode != 0
    (path,) = (tmp_path / "runs").iterdir()
    message = (
        "error: process 0 of 2 stops, because another one has ended or no longer answers. The same command continues"
    )
    assert f"{message} from the state in runs/{path.name}" in killed.stderr
    assert checkpoint.read(path)[1]["done"] == 10
    whole = Run.load(next((folder / "whole").glob("*.json")))
    with pytest.raises(CheckpointMismatch, match="processes is 2 there and 1 here"):
        fit((whole.model, whole.overrides), data, whole.recipe, checkpoint=path, progress=False)
    resumed = torchrun(tmp_path, recipe, "sys.exit(main(sys.argv[1:]))", *COMMAND)
    assert resumed.returncode == 0, resumed.stderr
    run = Run.load(next((tmp_path / "runs").glob("*.json")))
    assert curve(run) == curve(whole)
    assert (run.train, run.test) == (whole.train, whole.test)


@pytest.mark.parametrize(("items", "count"), [(41, 2), (7, 3), (2, 4), (12, 4)])
def test_shares_are_a_partition_in_order(items, count):
    whole = torch.arange(items)
    shares = [Processes(rank=rank, count=count).share(whole) for rank in range(count)]
    assert torch.equal(torch.cat(shares), whole)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_without_torchrun_a_process_is_alone():
    assert join("cpu") == Processes(torch.device("cpu"))
    values = torch.ones(3)
    assert join("cpu").sum(values) is values
    assert join("cpu").mean(values) is values


def test_what_a_network_draws_is_other_in_each_process_and_step(plain, data, recipe, monkeypatch):
    seeds = []
    monkeypatch.setattr(engine.hardware, "seed_generators", lambda device, seed: seeds.append(seed))
    for rank in (0, 1):
        monkeypatch.setattr(engine.distributed, "join", lambda device, rank=rank: Processes(rank=rank))
        fit(plain, data, recipe.limited(steps=2), progress=False)
    assert len(set(seeds)) == 4


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda:1", "give the device cuda, not cuda:1"), ("cuda", "this host has 2 GPUs: .*--nproc-per-node=2 or fewer")],
)
def test_each_process_needs_a_gpu(monkeypatch, device, message):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "3", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ProcessError, match=message):
        join(device)


def test_normalisation_is_synchronised_on_gpus_only(tiny, data, recipe):
    with pytest.raises(RecipeError, match="on GPUs only"):
        fit(tiny, data, recipe, device="cpu", sync_bn=True, progress=False)


@pytest.fixture
def two():
    return Processes(rank=0, count=2)


def test_the_end_of_those_that_read_images_does_not_cut_the_message_off(two):
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGCHLD)]

    def fail(*_):
        raise RuntimeError("DataLoader worker (pid 4315) is killed by signal: Terminated. ")

    def end():
        with two.lost_ones_explained(None):
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGCHLD)

    try:
        signal.signal(signal.SIGCHLD, fail)  # as PyTorch does
        with pytest.raises(ProcessError, match="another one has ended"):
            end()
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@pytest.mark.parametrize(
    "message",
    [
        "[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:21231",
        "[../gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 600000ms for recv operation to complete",
        "NCCL error in: ProcessGroupNCCL.cpp:2027, remote process exited or there was a network error",
        "DataLoader worker (pid 4315) is killed by signal: Terminated. ",
    ],
)
def test_a_lost_process_is_explained(two, message, tmp_path):
    path, other = tmp_path / "x.checkpoint", Processes(rank=1, count=2)
    with (
        pytest.raises(ProcessError, match=r"Nothing had been saved yet: the same command starts again$"),
        two.lost_ones_explained(path),
    ):
        raise RuntimeError(message)
    with (
        pytest.raises(ProcessError, match=r"x\.checkpoint, if process 0 had saved one$"),
        other.lost_ones_explained(path),
    ):
        raise RuntimeError(message)
    path.touch()
    with (
        pytest.raises(ProcessError, match=r"The same command continues from the state in .*x\.checkpoint$"),
        two.lost_ones_explained(path),
    ):
        raise RuntimeError(message)
    with pytest.raises(ProcessError, match="has to start again"), two.lost_ones_explained(None):
        signal.raise_signal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_other_errors_are_not_taken_for_a_loss(two):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2"), two.lost_ones_explained(None):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RecipeError), two.lost_ones_explained(None):
        raise RecipeError("timed out")
    assert signal.getsignal(signal.SIGTERM) is before


def test_only_the_first_process_listens_to_ctrl_c():
    before = signal.getsignal(signal.SIGINT)
    interrupts = Interrupts(listening=False)
    with interrupts:
        signal.raise_signal(signal.SIGINT)
        interrupts.check()
    assert signal.getsignal(signal.SIGINT) is before
