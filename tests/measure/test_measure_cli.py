"""``summary`` and ``receptive-field`` on the command line."""

from __future__ import annotations

import argparse

import pytest

from cnnlib.measure.cli import add_commands
from cnnlib.measure.errors import BadArgument
from cnnlib.models import BadOption, UnknownModel
from cnnlib.models.layers import InputTooSmall


def run(*words: str) -> int | None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    options = parser.parse_args(words)
    return options.run(options)


def test_summary_has_the_paper_s_size_unless_told_otherwise(capsys):
    assert not run("summary", "alexnet")
    text = capsys.readouterr().out
    assert text.startswith("AlexNet: layers for one input of 3x227x227\n")
    assert "60,965,224  724,406,816" in text
    run("summary", "alexnet", "--size", "131")
    assert "3x131x131" in capsys.readouterr().out
    run("summary", "alexnet", "--input", "3", "131", "200")
    assert "3x131x200" in capsys.readouterr().out


def test_summary_of_another_number_of_classes_and_of_whole_stages(capsys):
    run("summary", "resnet20", "--classes", "100", "--depth", "1")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 20
    assert next(line for line in lines if line.startswith("total")).split()[2] == "100"


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("classes", ["0", "-1"])
def test_summary_refuses_an_impossible_number_of_classes(classes):
    with pytest.raises(BadOption, match=f"resnet20 cannot be built with num_classes={classes}: "):
        run("summary", "resnet20", "--classes", classes)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", ["0", "99999999999"])
def test_a_number_of_classes_out_of_range_is_named(classes):
    with pytest.raises(BadOption, match=f"resnet20 .* num_classes={classes}: there must be 1 to 100,000 classes"):
        run("summary", "resnet20", "--classes", classes)


@pytest.mark.parametrize("words", [("--size", "9" * 20), ("--input", "3", "32", "9" * 20)])
@pytest.mark.parametrize("command", ["summary", "receptive-field"])
def test_an_image_that_is_too_large_is_refused(command, words):
    with pytest.raises(BadArgument, match="at most 100,000 pixels a side, not 99999999999999999999"):
        run(command, "resnet20", *words)


def test_receptive_field(capsys):
    assert not run("receptive-field", "alexnet")
    text = capsys.readouterr().out
    assert text.startswith("AlexNet: theoretical receptive field, input 3x227x227\n")
    assert "field 195, stride 32" in text
    run("receptive-field", "resnet20", "--size", "64")
    assert "input 3x64x64" in capsys.readouterr().out


def test_errors_are_those_of_models():
    with pytest.raises(UnknownModel, match="alexnet"):
        run("summary", "alexnett")
    with pytest.raises(InputTooSmall, match="at least 67x67"):
        run("receptive-field", "alexnet", "--size", "32")


def test_size_and_input_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        run("summary", "alexnet", "--size", "224", "--input", "3", "224", "224")
    assert "not allowed with" in capsys.readouterr().err
