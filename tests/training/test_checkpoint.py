import dataclasses
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import filelock
import pytest
import torch
from torch import nn

from cnnlib.training import (
    CheckpointError,
    CheckpointMismatch,
    Diverged,
    Interrupted,
    TrainingWarning,
    checkpoint,
    engine,
    evaluation,
    fit,
    network,
)
from cnnlib.training import step as step_module

SMALL = ("alexnet-cifar", {"width": 0.125})


class Killed(Exception):
    """Stands for the end of the process."""


def train(data, recipe, **options):
    options = {"progress": False, "checkpoint_every": 0, "log_every": 5, **options}
    return fit(options.pop("model", SMALL), data, recipe, **options)


def assert_same(a, b):
    untimed = lambda run: [dataclasses.replace(point, seconds=0) for point in run.history]  # noqa: E731
    assert untimed(a) == untimed(b)
    assert (a.train, a.test) == (b.train, b.test)
    for left, right in zip(a.module.state_dict().values(), b.module.state_dict().values(), strict=True):
        assert torch.equal(left, right)


def die_at(monkeypatch, calls, error=Killed):
    """Make the given call of a training step fail, and only that one."""
    count, step = [0], step_module.Step.__call__

    def mortal(self, *arguments):
        count[0] += 1
        if count[0] == calls:
            raise error
        return step(self, *arguments)

    monkeypatch.setattr(step_module.Step, "__call__", mortal)


def test_a_killed_process_ends_with_the_same_numbers(data, recipe, tmp_path):
    """The process kills itself within step 11 with SIGKILL, in the second epoch and between two points."""
    script = textwrap.dedent(
        f"""
        import os, signal, sys, torch
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from conftest import make_tiny_data
        from cnnlib.training import Recipe, fit, step
        torch.set_num_threads(1)
        count, call = [0], step.Step.__call__
        def mortal(self, *arguments):
            count[0] += 1
            if count[0] == 11:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(self, *arguments)
        step.Step.__call__ = mortal
        fit({SMALL!r}, make_tiny_data(), {recipe!r}, seed=2, precision="fp32", checkpoint="run.checkpoint",
            checkpoint_every=0, log_every=5, progress=False)
        """
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    path = tmp_path / "run.checkpoint"
    assert checkpoint.read(path)[1]["done"] == 10
    resumed = train(data, recipe, seed=2, checkpoint=path)
    assert_same(resumed, train(data, recipe, seed=2))


@pytest.mark.parametrize("calls", [1, 2, 6, 7, 12, 24])
@pytest.mark.parametrize("reads", [1, 4])
def test_broken_off_anywhere(tiny, data, recipe, tmp_path, monkeypatch, calls, reads):
    """Batch normalisation, dropout and momentum included; reading every 4 steps saves only every 4."""
    monkeypatch.setattr(engine, "STEPS_BETWEEN_READS", {"cpu": reads})
    path = tmp_path / "x"
    whole = train(data, recipe)
    with monkeypatch.context() as patch:
        die_at(patch, calls)
        with pytest.raises(Killed):
            train(data, recipe, checkpoint=path)
    assert_same(train(data, recipe, checkpoint=path), whole)


def test_a_module_with_dropout_and_batch_normalisation(tiny, data, recipe, tmp_path, monkeypatch):
    start = {key: value.clone() for key, value in tiny.state_dict().items()}
    whole = train(data, recipe, model=tiny)
    expected = {key: value.clone() for key, value in tiny.state_dict().items()}
    tiny.load_state_dict(start)
    die_at(monkeypatch, 9)
    with pytest.raises(Killed):
        train(data, recipe, model=tiny, checkpoint=tmp_path / "x")
    tiny.load_state_dict(start)  # as a new process would have it
    again = train(data, recipe, model=tiny, checkpoint=tmp_path / "x")
    assert again.test == whole.test
    assert all(torch.equal(value, expected[key]) for key, value in tiny.state_dict().items())


def test_loss_scaling_is_continued_too(data, recipe, tmp_path, monkeypatch):
    whole = train(data, recipe, precision="fp16")
    die_at(monkeypatch, 9)
    with pytest.raises(Killed):
        train(data, recipe, precision="fp16", checkpoint=tmp_path / "x")
    assert checkpoint.read(tmp_path / "x")[1]["step"]["scaler"]["_growth_tracker"] > 0
    assert_same(train(data, recipe, precision="fp16", checkpoint=tmp_path / "x"), whole)


def test_two_trainings_never_share_a_checkpoint(data, recipe, tmp_path):
    path = tmp_path / "x"
    with checkpoint.held(path), pytest.raises(CheckpointError, match=r"another training uses the checkpoint .*x at"):
        train(data, recipe, checkpoint=path)
    assert [*tmp_path.iterdir()] == []
    train(data, recipe, checkpoint=path)
    assert [*tmp_path.iterdir()] == [path]


def test_a_killed_process_holds_its_checkpoint_no_more(data, recipe, tmp_path):
    path = tmp_path / "x"
    script = f"""
        import pathlib
        from cnnlib.training import checkpoint
        with checkpoint.held(pathlib.Path({str(path)!r})):
            print("held", flush=True)
            input()
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(CheckpointError, match="another training"):
            train(data, recipe, checkpoint=path)
        other.kill()
    assert train(data, recipe, checkpoint=path).train


def test_a_finished_training_is_returned_at_once(data, recipe, tmp_path, monkeypatch):
    whole = train(data, recipe, checkpoint=tmp_path / "x")
    die_at(monkeypatch, 1)
    again = train(data, recipe, checkpoint=tmp_path / "x")
    assert_same(again, whole)
    assert (again.seconds, again.images_per_second) == (whole.seconds, whole.images_per_second)


def test_threads_precision_and_compilation_are_those_of_the_beginning(data, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    path = tmp_path / "x"
    with monkeypatch.context() as patch:
        die_at(patch, 9)
        with pytest.raises(Killed):
            train(data, recipe, checkpoint=path, compile=True, precision="bf16")
    torch.set_num_threads(2)
    with pytest.warns(TrainingWarning, match="goes on with the 1 thread that it began with, not with 2"):
        run = train(data, recipe, checkpoint=path)
    assert (run.threads, run.precision, run.compiled) == (1, "bf16", True)
    assert torch.get_num_threads() == 2
    with pytest.raises(CheckpointMismatch, match="compiled is True there and False here"):
        train(data, recipe, checkpoint=path, compile=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"recipe": {"lr": 0.1}}, "recipe.lr is 0.05 there and 0.1 here"),
        ({"model": ("alexnet-cifar", {"width": 0.25})}, "overrides.width is 0.125 there and 0.25 here"),
        ({"log_every": 6}, "log_every is 5 there and 6 here"),
        ({"evaluate_every": 2}, "evaluate_every is 1 there and 2 here"),
        ({"precision": "bf16"}, "precision"),
        ({"pixels": True}, "data.digest"),
    ],
)
def test_another_trainings_checkpoint_is_refused(data, recipe, tmp_path, monkeypatch, change, message):
    path = tmp_path / "x"
    train(data, recipe, checkpoint=path)
    content = path.read_bytes()
    if change.pop("pixels", False):
        data = dataclasses.replace(data, train_images=255 - data.train_images)
    recipe = recipe.replace(**change.pop("recipe", {}))
    with pytest.raises(CheckpointMismatch, match=message) as error:
        train(data, recipe, checkpoint=path, **change)
    assert str(path) in str(error.value)
    assert path.read_bytes() == content, "the other training's checkpoint is left as it was"


def make_net(activation=nn.ReLU, kernel=3):
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 8, kernel), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


@pytest.mark.parametrize("other", [{"activation": nn.Tanh}, {"activation": nn.Identity}, {"kernel": (1, 9)}])
def test_the_checkpoint_of_another_module_of_the_same_class_and_size_is_refused(data, recipe, tmp_path, other):
    recipe = recipe.limited(steps=1)
    run = train(data, recipe, model=make_net(), checkpoint=tmp_path / "x")
    assert sum(p.numel() for p in make_net(**other).parameters()) == run.parameters
    with pytest.raises(CheckpointMismatch, match=r"training: layers.digest is '\w+' there and '\w+' here\. Give"):
        train(data, recipe, model=make_net(**other), checkpoint=tmp_path / "x")
    assert_same(train(data, recipe, model=make_net(), checkpoint=tmp_path / "x"), run)


@pytest.mark.parametrize("change", [{"mean": (0.4, 0.4, 0.4)}, {"std": (0.2, 0.2, 0.2)}], ids=str)
def test_a_checkpoint_of_images_normalised_otherwise_is_refused(data, recipe, tmp_path, change):
    ((name, values),) = change.items()
    train(data, recipe.limited(steps=1), checkpoint=tmp_path / "x")
    with pytest.raises(CheckpointMismatch, match=rf"{name} is \[.*\] there and \[{values[0]}, .*\] here"):
        train(dataclasses.replace(data, **change), recipe.limited(steps=1), checkpoint=tmp_path / "x")


def test_the_shapes_of_what_is_kept_tell_modules_apart():
    class Holds(nn.Module):
        def __init__(self, *shape):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(shape))

    one, two = Holds(2, 3), Holds(3, 2)
    assert repr(one) == repr(two)
    assert network.layers_of(one) != network.layers_of(two)


def test_where_something_lies_in_memory_makes_no_other_module():
    class Says(nn.Module):
        def __init__(self):
            super().__init__()
            self.function = lambda x: x

        def extra_repr(self):
            return repr(self.function)

    one, two = Says(), Says()
    assert repr(one) != repr(two)
    assert network.layers_of(one) == network.layers_of(two) != network.layers_of(nn.Sequential(one))


def test_a_checkpoint_with_synchronised_normalisation_is_refused_without(data, recipe, tmp_path):
    train(data, recipe.limited(steps=1), checkpoint=tmp_path / "x")
    identity, state = checkpoint.read(tmp_path / "x")
    checkpoint.write(tmp_path / "x", identity | {"sync_bn": True}, state)
    with pytest.raises(CheckpointMismatch, match="sync_bn is True there and False here"):
        train(data, recipe.limited(steps=1), checkpoint=tmp_path / "x")


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped"])
def test_a_damaged_file_is_named(data, recipe, tmp_path, damage):
    path = tmp_path / "run.checkpoint"
    run = train(data, recipe, checkpoint=path)
    content = bytearray(path.read_bytes())
    if damage == "empty":
        content = b""
    elif damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        weights = [*run.module.parameters()][-1].detach().numpy().tobytes()
        content[content.index(weights)] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run.checkpoint is damaged.*delete it"):
        train(data, recipe, checkpoint=path)


def test_a_byte_that_changed_anywhere_is_found_or_changes_nothing(tmp_path):
    path = tmp_path / "x"
    written = {"seed": 1}, {"done": 2, "weights": torch.arange(3.0)}
    checkpoint.write(path, *written)
    content, refused = path.read_bytes(), 0
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            identity, state = checkpoint.read(path)
        except CheckpointError:
            refused += 1
        else:
            assert (identity, state["done"], state["weights"].tolist()) == ({"seed": 1}, 2, [0, 1, 2])
    assert refused > 100


def test_a_folder_is_no_checkpoint(data, recipe, tmp_path):
    with pytest.raises(CheckpointError, match=r"is not a file; give the path of the checkpoint itself$"):
        train(data, recipe, checkpoint=tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"format": 0, "identity": {}, "state": {}},
        {"format": checkpoint.FORMAT, "identity": 1, "state": {}},
        {"format": checkpoint.FORMAT, "identity": {}, "state": torch.zeros(2)},
    ],
    ids=str,
)
def test_a_file_that_holds_something_else_is_named(data, recipe, tmp_path, content):
    path = tmp_path / "run.checkpoint"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"run.checkpoint is damaged \(it holds something else\); delete it"):
        train(data, recipe, checkpoint=path)


@pytest.mark.parametrize(
    "content", [b"not a checkpoint", b"\x89PNG", {"weights": torch.zeros(2)}, torch.zeros(2), [1], None], ids=str
)
def test_a_file_of_something_else_is_not_to_be_deleted(data, recipe, tmp_path, content):
    path = tmp_path / "mine"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"mine is no checkpoint of cnnlib; give another path$"):
        train(data, recipe, checkpoint=path)


def lose_history(identity, state):
    del state["history"]


def lose_a_weight(identity, state):
    state["module"].popitem()


def lose_the_end(identity, state):
    del state["train"]


def spell_the_threads(identity, state):
    identity["threads"] = "two"


@pytest.mark.parametrize("damage", [lose_history, lose_a_weight, lose_the_end, spell_the_threads])
def test_a_state_that_lacks_something_is_one_clear_error(tiny, data, recipe, tmp_path, damage):
    path = tmp_path / "x"
    train(data, recipe, model=tiny, checkpoint=path)
    identity, state = checkpoint.read(path)
    damage(identity, state)
    checkpoint.write(path, identity, state)
    with torch.no_grad():
        tiny.conv.weight.zero_()
    with pytest.raises(CheckpointError, match=r"x is damaged, or that of another network \(.*\); .*delete it to train"):
        train(data, recipe, model=tiny, checkpoint=path)
    if damage is not lose_a_weight:
        assert not tiny.conv.weight.any(), "the network is left as it was"


def test_a_finished_network_with_a_weight_missing_is_one_clear_error(data, recipe, tmp_path):
    path = tmp_path / "x"
    train(data, recipe, checkpoint=path)
    identity, state = checkpoint.read(path)
    lose_a_weight(identity, state)
    checkpoint.write(path, identity, state)
    with pytest.raises(CheckpointError, match="is damaged"):
        engine.finished_network(SMALL, data, recipe, path)


def test_a_checkpoint_of_the_first_versions_is_continued(data, recipe, tmp_path):
    """They did not keep how long the first steps took. A run of one step had the whole time as its measure of speed."""
    path, short = tmp_path / "x", recipe.limited(steps=1)
    run = train(data, short, checkpoint=path)
    identity, state = checkpoint.read(path)
    del state["cold_seconds"]
    checkpoint.write(path, identity, state)
    again = train(data, short, checkpoint=path)
    assert (again.train, again.test) == (run.train, run.test)
    assert again.images_per_second == pytest.approx(short.batch_size / run.seconds)


def test_a_checkpoint_that_knows_nothing_of_layers_and_normalisation_is_continued(data, recipe, tmp_path, monkeypatch):
    path, whole = tmp_path / "x", train(data, recipe, model=make_net())
    with monkeypatch.context() as patch:
        die_at(patch, 9)
        with pytest.raises(Killed):
            train(data, recipe, model=make_net(), checkpoint=path)
    identity, state = checkpoint.read(path)
    checkpoint.write(path, {key: identity[key] for key in identity.keys() - checkpoint.LATER}, state)
    assert_same(train(data, recipe, model=make_net(), checkpoint=path), whole)
    identity, state = checkpoint.read(path)
    assert identity.keys() > set(checkpoint.LATER), "from now on it does"
    checkpoint.write(path, {key: identity[key] for key in identity.keys() - checkpoint.LATER}, state)
    assert engine.finished_network(make_net(), data, recipe, path)


def test_nothing_in_a_checkpoint_is_executed(data, recipe, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    torch.save({"format": 1, "identity": {}, "state": Bomb()}, tmp_path / "x")
    with pytest.raises(CheckpointError):
        train(data, recipe, checkpoint=tmp_path / "x")
    assert not (tmp_path / "exploded").exists()


def test_a_write_that_fails_half_way_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "x"
    checkpoint.write(path, {"seed": 1}, {"done": 1})

    def fail(content, file):
        file.write(b"half of i")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match=r"cannot write the checkpoint .*x: No space left on device"):
        checkpoint.write(path, {"seed": 1}, {"done": 2})
    assert checkpoint.read(path) == ({"seed": 1}, {"done": 1})


def test_a_full_disk_is_told_and_leaves_the_old_checkpoint_alone(tmp_path):
    path = tmp_path / "x"
    checkpoint.write(path, {"seed": 1}, {"done": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"cannot write the checkpoint .*x: File too large$"):
            checkpoint.write(path, {"seed": 1}, {"done": 2, "weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
    assert checkpoint.read(path) == ({"seed": 1}, {"done": 1})


def test_the_folder_is_made_and_one_that_cannot_be_is_told(data, recipe, tmp_path):
    train(data, recipe.limited(steps=1), checkpoint=tmp_path / "new" / "folder" / "x")
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["x"]
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        train(data, recipe.limited(steps=1), checkpoint=tmp_path / "file" / "x")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file/x", "cannot write the checkpoint file/x: Not a directory; give another path"),
        ("n" * 250, "cannot write the checkpoint n+: File name too long; give another path"),
        (".", "is not a file; give the path of the checkpoint itself"),
        ("/", "is not a file; give the path of the checkpoint itself"),
    ],
)
def test_a_path_that_is_of_no_use_is_told_before_the_training(data, recipe, tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    monkeypatch.setattr(engine, "build", lambda *_: pytest.fail("a network was built"))
    with pytest.raises(CheckpointError, match=message):
        train(data, recipe, checkpoint=path)


def test_a_finished_training_is_returned_from_a_place_that_cannot_be_written(data, recipe, tmp_path, monkeypatch):
    train(data, recipe, checkpoint=tmp_path / "x")
    monkeypatch.setattr(checkpoint, "check_writable", lambda _: pytest.fail("it was to be written"))
    assert train(data, recipe, checkpoint=tmp_path / "x").train


def disk_full_at(monkeypatch, step):
    """Let no checkpoint of this step be written."""
    write = checkpoint.write

    def full(path, identity, state):
        if state["done"] == step:
            raise CheckpointError(f"cannot write the checkpoint {path}: No space left on device")
        write(path, identity, state)

    monkeypatch.setattr(checkpoint, "write", full)


def test_a_run_whose_last_state_cannot_be_saved_is_not_lost(data, recipe, tmp_path, monkeypatch):
    disk_full_at(monkeypatch, 24)
    with pytest.warns(TrainingWarning, match="No space left on device, at step 24 of 24; the run is finished"):
        run = train(data, recipe, checkpoint=tmp_path / "x", checkpoint_every=1e9)
    assert_same(run, train(data, recipe))


def test_of_a_run_whose_last_state_cannot_be_saved_the_one_before_is_left(data, recipe, tmp_path, monkeypatch):
    write = checkpoint.write

    def full_in_the_end(path, identity, state):
        if state["train"]:
            raise CheckpointError("No space left on device")
        write(path, identity, state)

    monkeypatch.setattr(checkpoint, "write", full_in_the_end)
    with pytest.warns(TrainingWarning, match=r"the run is finished, .* command, trains its last steps again$"):
        run = train(data, recipe, checkpoint=tmp_path / "x", checkpoint_every=0)
    monkeypatch.setattr(checkpoint, "write", write)
    assert_same(run, train(data, recipe, checkpoint=tmp_path / "x"))


@pytest.mark.parametrize(("step", "then"), [(1, "then starts again"), (2, "continues from what was saved before")])
def test_a_disk_that_becomes_full_says_what_to_do(data, recipe, tmp_path, monkeypatch, step, then):
    disk_full_at(monkeypatch, step)
    with pytest.raises(CheckpointError, match=f"No space left on device, at step {step} of 24; make room .*, {then}"):
        train(data, recipe, checkpoint=tmp_path / "x")


# Older versions of filelock raise the latter where the file system knows no locks.
@pytest.mark.parametrize("error", [PermissionError, NotImplementedError])
def test_a_file_system_without_locks_stops_no_training(data, recipe, tmp_path, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert train(data, recipe.limited(steps=1), checkpoint=tmp_path / "x").steps == 1


def test_saved_at_intervals(data, recipe, tmp_path, monkeypatch):
    times, now = [], [0.0]
    monkeypatch.setattr(engine.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoint, "write", lambda *_: times.append(now[0]))
    step = step_module.Step.__call__

    def slow(self, *arguments):
        now[0] += 1
        return step(self, *arguments)

    monkeypatch.setattr(step_module.Step, "__call__", slow)
    train(data, recipe, checkpoint=tmp_path / "x", checkpoint_every=9.5)
    assert times == [10, 20, 24], "every ten steps of a second, and at the end"


def test_divergence_leaves_no_checkpoint_to_diverge_again(data, recipe, tmp_path):
    with pytest.raises(Diverged):
        train(data, recipe.replace(lr=1e9), checkpoint=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_last_step_that_ends_in_no_numbers_is_no_finished_run(data, recipe, tmp_path):
    """Its own loss is that before the update, and only the evaluation shows what the update made of the weights."""
    recipe = recipe.replace(lr=1e300, warmup=0.0, milestones=()).limited(steps=1)
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) at step 1 of 1 \(learning rate 1e\+300, seed 0\)"):
        train(data, recipe, checkpoint=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def interrupt_in(monkeypatch, owner, name, calls):
    """Send Ctrl-C to this process within a call of a function, before it does its work."""
    count, function = [0], getattr(owner, name)

    def interrupting(*arguments, **options):
        count[0] += 1
        if count[0] == calls:
            signal.raise_signal(signal.SIGINT)
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, interrupting)


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_continue(data, recipe, tmp_path, monkeypatch):
    path = tmp_path / "x"
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupt_in(patch, step_module.Step, "__call__", 9)
        with pytest.raises(Interrupted, match="stopped at step 9 of 24; the same call, or command, continues from"):
            train(data, recipe, checkpoint=path, checkpoint_every=1e9)
    assert signal.getsignal(signal.SIGINT) is handler
    assert checkpoint.read(path)[1]["done"] == 9
    assert_same(train(data, recipe, checkpoint=path), train(data, recipe))


@pytest.mark.parametrize("calls", [1, 4, 5])
def test_ctrl_c_in_an_evaluation_does_not_wait_for_its_end(data, recipe, tmp_path, monkeypatch, calls):
    """Call 4 is the last test evaluation, call 5 that of the training images."""
    path = tmp_path / "x"
    with monkeypatch.context() as patch:
        interrupt_in(patch, evaluation, "_evaluate", calls)
        with pytest.raises(Interrupted):
            train(data, recipe, checkpoint=path, checkpoint_every=1e9)
    assert_same(train(data, recipe, checkpoint=path), train(data, recipe))


def test_a_second_ctrl_c_does_not_wait_and_saves_nothing_half_changed(data, recipe, tmp_path, monkeypatch):
    step = step_module.Step.__call__

    def impatient(self, *arguments):
        result = step(self, *arguments)  # the weights have changed, and the count of steps has not
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(step_module.Step, "__call__", impatient)
    with pytest.raises(Interrupted, match=r"^stopped at step 0 of 24, before anything was saved$"):
        train(data, recipe, checkpoint=tmp_path / "x", checkpoint_every=1e9)
    assert not (tmp_path / "x").exists()


def test_ctrl_c_without_a_checkpoint(data, recipe, monkeypatch):
    interrupt_in(monkeypatch, step_module.Step, "__call__", 9)
    with pytest.raises(Interrupted, match="checkpoint="):
        train(data, recipe)


def test_training_works_in_a_thread_where_signals_cannot_be_caught(data, recipe):
    runs = []
    thread = threading.Thread(target=lambda: runs.append(train(data, recipe.limited(steps=2))))
    thread.start()
    thread.join()
    assert runs[0].steps == 2


def test_another_version_of_pytorch_is_a_warning(data, recipe, tmp_path, monkeypatch):
    path = tmp_path / "x"
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "2.0.0")
        die_at(patch, 9)
        with pytest.raises(Killed):
            train(data, recipe, checkpoint=path)
    with pytest.warns(UserWarning, match=r"began with torch 2.0.0"):
        train(data, recipe, checkpoint=path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(data, recipe, checkpoint=tmp_path / "y")
        train(data, recipe, checkpoint=tmp_path / "y")


def test_a_finished_run_names_the_machine_and_versions_that_made_it(data, recipe, tmp_path, monkeypatch):
    path = tmp_path / "x"
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "2.0.0")
        patch.setattr(engine.hardware, "device_in_words", lambda device: "another machine")
        made = train(data, recipe.limited(steps=1), checkpoint=path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = train(data, recipe.limited(steps=1), checkpoint=path)
    assert (again.device, again.versions) == (made.device, made.versions)
    assert (again.device, again.versions["torch"]) == ("another machine", "2.0.0")
    identity, state = checkpoint.read(path)
    del state["device"], state["versions"]
    checkpoint.write(path, identity, state)
    with pytest.warns(TrainingWarning, match=r"began with torch 2.0.0"):  # the first versions did not keep them
        assert train(data, recipe.limited(steps=1), checkpoint=path).versions["torch"] == torch.__version__


def test_a_path_where_one_may_not_look_is_said(tmp_path, monkeypatch):
    def forbidden(path, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "exists", forbidden)
    with pytest.raises(CheckpointError, match=r"cannot read the checkpoint .*: Permission denied"):
        checkpoint.read(tmp_path / "x")


def test_the_scale_of_the_loss_is_continued(data, recipe, tmp_path, monkeypatch):
    train(data, recipe, precision="fp16", checkpoint=tmp_path / "whole")
    die_at(monkeypatch, 9)
    with pytest.raises(Killed):
        train(data, recipe, precision="fp16", checkpoint=tmp_path / "x")
    train(data, recipe, precision="fp16", checkpoint=tmp_path / "x")
    whole, continued = (checkpoint.read(tmp_path / name)[1]["step"]["scaler"] for name in ("whole", "x"))
    assert continued == whole


def test_losses_that_were_not_read_yet_are_saved(data, recipe, tmp_path, monkeypatch):
    """On a GPU they are read every 50 steps, and Ctrl-C comes between."""
    monkeypatch.setattr(engine, "STEPS_BETWEEN_READS", {"cpu": 50})
    with monkeypatch.context() as patch:
        interrupt_in(patch, step_module.Step, "__call__", 9)
        with pytest.raises(Interrupted):
            train(data, recipe, checkpoint=tmp_path / "x", checkpoint_every=1e9)
    assert_same(train(data, recipe, checkpoint=tmp_path / "x"), train(data, recipe))


@pytest.mark.parametrize(("what", "there"), [("device", "cuda"), ("processes", 2), ("parameters", 1)])
def test_a_checkpoint_of_other_conditions_is_refused(data, recipe, tmp_path, what, there):
    train(data, recipe.limited(steps=1), checkpoint=tmp_path / "x")
    identity, state = checkpoint.read(tmp_path / "x")
    checkpoint.write(tmp_path / "x", identity | {what: there}, state)
    with pytest.raises(CheckpointMismatch, match=f"{what} is {there!r} there and {identity[what]!r} here"):
        train(data, recipe.limited(steps=1), checkpoint=tmp_path / "x")


def test_a_finished_network_is_ready_to_be_asked(data, recipe, tmp_path):
    train(data, recipe.limited(steps=1), checkpoint=tmp_path / "x")
    network = engine.finished_network(SMALL, data, recipe.limited(steps=1), tmp_path / "x")
    assert not any(part.training for part in network.modules())


def test_the_time_before_a_break_counts(data, recipe, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        die_at(patch, 9)
        with pytest.raises(Killed):
            train(data, recipe, checkpoint=tmp_path / "x")
    identity, state = checkpoint.read(tmp_path / "x")
    checkpoint.write(tmp_path / "x", identity, state | {"seconds": 1e6})
    run = train(data, recipe, checkpoint=tmp_path / "x")
    assert run.seconds > run.history[-1].seconds > 1e6


@pytest.mark.parametrize("more", [{"dropout": 0.0}, {"activation": nn.Tanh}], ids=str)
def test_what_only_one_of_two_trainings_changes_tells_them_apart(data, recipe, tmp_path, more):
    recipe, changed = recipe.limited(steps=1), (SMALL[0], SMALL[1] | more)
    for here, there in ((SMALL, changed), (changed, SMALL)):
        train(data, recipe, model=there, checkpoint=tmp_path / "x")
        with pytest.raises(CheckpointMismatch, match=rf"training: overrides\.{next(iter(more))} is .* there and "):
            train(data, recipe, model=here, checkpoint=tmp_path / "x")
        (tmp_path / "x").unlink()


CHANGES = {
    "momentum": 0.5,
    "nesterov": True,
    "weight_decay": 0.0,
    "milestones": (0.25,),
    "gamma": 0.5,
    "warmup": 0.2,
    "warmup_lr": 0.02,
    "augment": False,
    "padding": "reflect",
    "epochs": 5.0,
    "batch_size": 8,
}


@pytest.mark.parametrize("field", CHANGES)
def test_the_checkpoint_of_another_recipe_is_refused(data, recipe, tmp_path, field):
    assert getattr(recipe, field) != CHANGES[field]
    train(data, recipe, checkpoint=tmp_path / "x")
    other = recipe.replace(**{field: CHANGES[field]}, name=recipe.name)
    with pytest.raises(CheckpointMismatch, match=rf"recipe\.{field} is "):
        train(data, other, checkpoint=tmp_path / "x")
