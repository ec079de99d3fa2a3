"""Averaging networks of different kinds."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cnnlib.studies import Record, StudyError, fuse


class Says(nn.Module):
    """Answers with fixed logits, whatever the images."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x):
        return self.logits[: len(x)]


@pytest.fixture
def four(data):
    """Four test images of classes 0, 1, 0 and 1."""
    return dataclasses.replace(data, test_images=data.test_images[:4], test_labels=torch.tensor([0, 1, 0, 1]))


def run(*logits, data="CIFAR-10"):
    return SimpleNamespace(module=Says([list(pair) for pair in logits]), data=data)


@pytest.fixture
def runs():
    return {
        "sure": run((3.0, 0.0), (0.0, 3.0), (0.0, 3.0), (3.0, 0.0)),  # right, right, wrong, wrong
        "weak": run((0.0, 1.0), (0.0, 1.0), (5.0, 0.0), (1.0, 0.0)),  # wrong, right, surely right, wrong
    }


def test_a_sure_network_outvotes_a_weak_one(runs, four):
    fusion = fuse(runs, four)
    assert fusion.alone == {"sure": 50.0, "weak": 50.0}
    (both,) = fusion.fused
    assert (both.best, both.error, both.gain, both.all_wrong) == (50.0, 25.0, 25.0, 25.0)
    assert both.uncertainty == pytest.approx(100 * 0.5 / 2)  # deviations of (0, 0, 1, 0), by the square root of 4
    assert fusion.images == 4


def test_every_pair_and_all_together(runs, four):
    three = fuse(runs | {"third": runs["sure"]}, four)
    members = [row.members for row in three.fused]
    assert members == [("sure", "weak"), ("sure", "third"), ("weak", "third"), ("sure", "weak", "third")]
    same = three.fused[1]
    assert (same.gain, same.uncertainty, same.all_wrong) == (0.0, 0.0, 50.0)
    text = str(three)
    assert "sure + weak" in text
    assert "+25.00 ± 25.00" in text


def test_a_stand_in_is_named(runs, four):
    for each in runs.values():
        each.data = "Shapes-10"
    assert "SHAPES-10, IN PLACE OF CIFAR-10" in str(
        fuse(runs, dataclasses.replace(four, name="Shapes-10", stands_in_for="CIFAR-10"))
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda runs: runs.pop("weak"), "at least two"),
        (lambda runs: setattr(runs["weak"], "module", None), "has no network"),
        (lambda runs: setattr(runs["weak"], "data", "CIFAR-100"), "different data.*CIFAR-10, CIFAR-100"),
    ],
)
def test_what_cannot_be_averaged_is_refused(runs, four, change, message):
    change(runs)
    with pytest.raises(StudyError, match=message):
        fuse(runs, four)


def test_the_gain_is_over_the_best_member(four):
    right, half = run((3.0, 0.0), (0.0, 3.0), (3.0, 0.0), (0.0, 3.0)), run(*[(1.0, 0.0)] * 4)
    (both,) = fuse({"half": half, "right": right}, four).fused
    assert (both.best, both.error, both.gain, both.all_wrong) == (0.0, 0.0, 0.0, 0.0)


def test_probabilities_are_averaged_and_not_logits(four):
    rest = (0.0, 9.0), (9.0, 0.0), (0.0, 9.0)
    answers = {"a": (0.0, 1.0), "b": (0.0, 1.0), "c": (3.0, 0.0)}
    fusion = fuse({name: run(first, *rest) for name, first in answers.items()}, four)
    assert fusion.fused[-1].error == 25.0


def test_records_are_not_taken_for_runs(runs, four):
    records = {name: Record("test", name, run) for name, run in runs.items()}
    with pytest.raises(StudyError, match=r"networks come with runs, as record\.run is one, not with a Record"):
        fuse(records, four)
