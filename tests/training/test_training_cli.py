import dataclasses
import json
import re
import signal
import warnings

import pytest
import torch

import cnnlib.data
from cnnlib.__main__ import main
from cnnlib.models import create
from cnnlib.training import Run
from cnnlib.training import step as step_module
from cnnlib.training.cli import _override

SMALL = ("train", "alexnet-cifar", "--set", "width=0.125", "--batch-size", "16", "--steps", "7")


def test_train_prints_the_result_and_saves_record_and_weights(cnn, tmp_path):
    status, out, err = cnn(*SMALL, "--seed", "3", "--set", "activation=nn.Tanh", "--lr", "0.02")
    assert status == 0
    (record,) = (tmp_path / "runs").glob("*.json")
    (weights,) = (tmp_path / "runs").glob("*.pt")
    assert sorted(path.suffix for path in (tmp_path / "runs").iterdir()) == [".json", ".pt"], "no checkpoint is left"
    run = Run.load(record)
    assert f"runs/{record.name}" in out
    assert f"runs/{weights.name}" in out
    assert f"{run.test_error:.2f} %" in out
    assert (run.seed, run.steps, run.recipe.batch_size, run.recipe.lr) == (3, 7, 16, 0.02)
    assert run.recipe.name == "alexnet, batch_size=16, lr=0.02"
    assert run.overrides == {"width": 0.125, "activation": "nn.Tanh"}
    assert "CIFAR-10: 96 training and 40 test images" in err
    network = create("alexnet-cifar", num_classes=4, width=0.125, activation=torch.nn.Tanh)
    network.load_state_dict(torch.load(weights, weights_only=True))


def test_the_same_command_again_continues(cnn, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        count, step = [0], step_module.Step.__call__

        def interrupted(self, *arguments):
            count[0] += 1
            if count[0] == 4:
                signal.raise_signal(signal.SIGINT)
            return step(self, *arguments)

        patch.setattr(step_module.Step, "__call__", interrupted)
        status, _, err = cnn(*SMALL)
    assert status == 130
    assert "stopped at step 4 of 7; the same call, or command, continues" in err
    steps = []
    monkeypatch.setattr(step_module.Step, "__call__", lambda self, *a: steps.append(1) or step(self, *a))
    assert cnn(*SMALL)[0] == 0
    assert len(steps) == 3
    (record,) = (tmp_path / "runs").glob("*.json")
    resumed = Run.load(record)
    assert cnn(*SMALL, "--no-checkpoint", "--out", "elsewhere")[0] == 0
    (other,) = (tmp_path / "elsewhere").glob("*.json")
    assert Run.load(other).test == resumed.test


def test_other_settings_have_other_files(cnn, tmp_path):
    training = ["--lr", "0.1"], ["--seed", "1"], ["--set", "dropout=0.0"]
    how = ["--precision", "fp16"], ["--device", "cpu"], ["--no-compile"]
    for change in ([], *training, *how):
        cnn(*SMALL, *change)
    assert len(list((tmp_path / "runs").glob("*.json"))) == 7


def test_a_checkpoint_of_ones_own(cnn, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr("cnnlib.training.checkpoint.write", lambda path, *_: written.append(path) or path.touch())
    cnn(*SMALL, "--checkpoint", "mine")
    assert [str(path) for path in written] == ["mine"]
    assert not (tmp_path / "mine").exists()


def test_a_tilde_is_the_home_folder(cnn, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cnn(*SMALL, "--checkpoint=~/mine", "--out=~/runs")[0] == 0
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["runs"], "the checkpoint was deleted there"
    assert len(list((tmp_path / "home" / "runs").iterdir())) == 2


def test_a_checkpoint_that_is_gone_at_the_end_is_no_error(cnn, monkeypatch):
    monkeypatch.setattr("cnnlib.training.checkpoint.write", lambda *_: None)
    assert cnn(*SMALL)[0] == 0


def test_a_folder_that_cannot_be_written_is_told_before_the_training(cnn, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("cnnlib.training.fit", lambda *_, **__: pytest.fail("it was trained"))
    status, _, err = cnn(*SMALL, "--no-checkpoint", "--out", "file/runs")
    assert status == 2
    assert "error: cannot write into the folder file/runs: Not a directory; choose another, --out DIR" in err
    _, _, err = cnn(*SMALL, "--no-checkpoint", "--out", "file")
    assert "error: cannot write into the folder file: it is no folder; choose another, --out DIR" in err


def test_a_run_that_cannot_be_saved_is_shown_and_can_be_saved_later(cnn, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        save = torch.save

        def full(content, file):
            if "format" not in content:
                raise OSError(28, "No space left on device")
            save(content, file)

        patch.setattr(torch, "save", full)
        status, out, err = cnn(*SMALL)
    assert status == 2
    assert "test error" in out
    assert re.search("cannot save .* in runs: No space left on device; .* same command saves them, from runs/.*", err)
    monkeypatch.setattr(step_module.Step, "__call__", lambda *_: pytest.fail("it was trained again"))
    assert cnn(*SMALL)[0] == 0
    assert sorted(path.suffix for path in (tmp_path / "runs").iterdir()) == [".json", ".pt"]


def fill_the_disk(monkeypatch):
    """So that not even the finished run is in the checkpoint."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)


def fill_the_disk_before_the_end(monkeypatch):
    """So that the checkpoint is that of an earlier step."""
    save = torch.save

    def full(content, file):
        if "format" not in content:
            raise OSError(28, "No space left on device")
        content["state"]["train"] = None
        save(content, file)

    monkeypatch.setattr(torch, "save", full)


LOST = "the weights are lost; make room there, or choose .*, --out DIR"


@pytest.mark.parametrize(
    ("prepare", "options", "advice"),
    [
        (fill_the_disk, [], LOST),
        (fill_the_disk_before_the_end, [], "same command trains the last steps again, from runs/.*checkpoint"),
        (fill_the_disk, ["--no-checkpoint"], LOST),
    ],
)
def test_nothing_is_promised_from_a_checkpoint_that_does_not_hold_the_run(cnn, monkeypatch, prepare, options, advice):
    prepare(monkeypatch)
    status, out, err = cnn(*SMALL, *options)
    assert status == 2
    assert "test error" in out
    assert re.search(rf"cannot save the weights \(the record is runs/.*json\) in runs: No space .*; .*{advice}", err)
    assert "saves them" not in err
    assert "nothing of it is lost" not in err


def test_a_reader_that_goes_away_takes_no_weights_with_it(cnn, tmp_path, monkeypatch):
    def cut_off(*_, file=None, **__):
        if file is None:
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", cut_off)
    assert cnn(*SMALL)[0] == 130
    assert {path.suffix for path in (tmp_path / "runs").iterdir()} >= {".json", ".pt"}


def test_other_images_of_the_same_name_have_other_files(cnn, data, tmp_path, monkeypatch):
    cnn(*SMALL)
    other = dataclasses.replace(data, train_images=255 - data.train_images)
    monkeypatch.setattr(cnnlib.data, "load", lambda *_, **__: other)
    assert cnn(*SMALL)[0] == 0
    assert len(list((tmp_path / "runs").glob("*.json"))) == 2


def test_a_stand_in_is_said_loudly(cnn, data, monkeypatch):
    def load(name, root, *, progress):
        warnings.warn("SHAPES-10 STANDS IN FOR CIFAR-10, WHICH CANNOT BE HAD", cnnlib.data.StandInWarning, 2)
        return dataclasses.replace(data, name="Shapes-10", stands_in_for="CIFAR-10")

    monkeypatch.setattr(cnnlib.data, "load", load)
    _, out, err = cnn(*SMALL)
    assert "*** SHAPES-10 STANDS IN FOR CIFAR-10" in err
    assert "SHAPES-10, GENERATED, IN PLACE OF CIFAR-10" in err
    assert "on SHAPES-10, IN PLACE OF CIFAR-10" in out
    assert "alexnet-cifar-shapes10-" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "alexnett"], "alexnet"),
        (["train", "resnet20", "--recipe", "resnet"], "resnet-cifar"),
        (["train", "resnet20", "--set", "width"], "OPTION=VALUE"),
        (["train", "resnet20", "--threads", "0"], "at least 1"),
        (["train", "resnet20", "--threads", "100000"], "threads must be at most 1024, not 100000"),
        (["train", "resnet20", "--batch-size", "97"], "97"),
        (["train", "resnet20", "--steps", "0"], "steps must be at least 1, not 0"),
        (["train", "resnet20", "--seed", "-1"], "seed must be a whole number from 0"),
        (["train", "resnet20", "--precision", "fp8"], "fp32, bf16, fp16, not 'fp8'"),
        (["train", "resnet20", "--epochs", "inf"], "epochs must be positive and finite, not inf"),
        (["train", "alexnet-cifar", "--batch-size", "16", "--set", "num_classes=3"], "num_classes=4"),
        (["train", "mobilenet-v1-0.25", "--batch-size", "1", "--steps", "1"], "at least 2 images .* --batch-size 2,"),
        (["bench", "--rounds", "0"], "rounds must be at least 1, not 0"),
        (["train", "resnet20", "--device", "gpu"], "no device 'gpu' here"),
        (["bench", "--data", "imagenet"], "images in memory: choose one of cifar10, cifar100, shapes10"),
        (["bench", "--data", "image-net"], "images in memory: choose one of cifar10, cifar100, shapes10"),
        (["bench", "--device", "gpu"], "no device 'gpu' here"),
        (["train", "resnet20", "--batch-size", "97"], r"\(--batch-size 96 at most\)"),
        (["train", "alexnet-cifar", "--batch-size", "16", "--set", "num_classes=3"], "--set num_classes=4"),
        (["train", "resnet20", "--workers", "2"], "cifar10 lies in memory, .* leave out --workers"),
    ],
)
def test_mistakes_are_one_clear_error(cnn, arguments, message):
    status, _, err = cnn(*arguments)
    assert status == 2
    assert re.search(f"error: .*{message}", err)


@pytest.mark.parametrize(
    "command",
    [
        ["train", "resnet20", "--seed", "-1"],
        ["train", "resnet20", "--precision", "fp8"],
        ["train", "resnet20", "--sync-bn", "--device", "cpu"],
        ["train", "resnet20", "--set", "depth=3"],
        ["train", "alexnet-cifar", "--set", "activation=Tanh"],
        ["train", "alexnet-cifar", "--set", "activation=nn.Tahn"],
        ["bench", "resnett20"],
        ["bench", "--rounds", "0"],
        ["bench", "--steps", "0"],
        ["bench", "--batch-size", "0"],
        ["bench", "--workers", "-1"],
        ["bench", "--device", "gpu"],
        ["bench", "--precision", "fp8"],
    ],
)
def test_options_are_refused_before_the_data_are_loaded(cnn, monkeypatch, command):
    """They may have to be downloaded."""
    monkeypatch.setattr("cnnlib.training.cli.load_data", lambda *_, **__: pytest.fail("they were loaded"))
    assert cnn(*command)[0] == 2


def test_a_folder_for_what_is_drawn_is_refused(capsys):
    assert main(["train", "resnet20", "--data", "shapes-10", "--root", "."]) == 2
    assert re.search("error: shapes10 is drawn, .* leave out .*--root", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("[1, 2]", [1, 2]), ("(1, 2)", (1, 2)), ("0.5", 0.5)),
        *(("true", True), ("True", True), ("false", False), ("False", False)),
        *(("nn.Tanh", "nn.Tanh"), ("A=B", "A=B")),
    ],
)
def test_options_are_written_as_in_json_or_python(text, value):
    assert _override(f"option={text}") == ("option", value)


def test_options_that_contradict_each_other_are_refused(cnn, capsys):
    with pytest.raises(SystemExit):
        cnn(*SMALL, "--checkpoint", "mine", "--no-checkpoint")
    assert "not allowed with" in capsys.readouterr().err


def stop_at(monkeypatch, calls):
    """Press Ctrl-C in a step."""
    count, step = [0], step_module.Step.__call__

    def interrupted(self, *arguments):
        count[0] += 1
        if count[0] == calls:
            signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    monkeypatch.setattr(step_module.Step, "__call__", interrupted)


def test_ctrl_c_without_a_checkpoint_names_the_option(cnn, monkeypatch):
    stop_at(monkeypatch, 2)
    status, _, err = cnn(*SMALL, "--no-checkpoint")
    assert status == 130
    assert "leave out --no-checkpoint" in err


def test_threads_that_give_way_are_said_in_a_line(cnn, monkeypatch):
    stop_at(monkeypatch, 2)
    assert cnn(*SMALL, "--threads", "1")[0] == 130
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status, _, err = cnn(*SMALL, "--threads", "2")
    assert status == 0
    assert re.search("^warning: this training goes on with the 1 thread that it began with, not with 2: .*$", err, re.M)
    assert "TrainingWarning" not in err


def test_threads(cnn, tmp_path):
    cnn(*SMALL, "--threads", "2")
    (record,) = (tmp_path / "runs").glob("*.json")
    assert json.loads(record.read_text())["threads"] == 2


def test_bench_prints_a_ratio(cnn):
    status, out, _ = cnn(
        "bench", "alexnet-cifar", "--batch-size", "8", "--rounds", "1", "--steps", "2", "--workers", "0"
    )
    assert status == 0
    assert "times as fast" in out
