"""The lecture's table, from records."""

import dataclasses
from types import SimpleNamespace

import pytest

from cnnlib.models import create
from cnnlib.studies import Probed, StudyError, find_study, first_to_last, overview, run
from cnnlib.studies.overview import convolutions, layers


def probed(*gradients):
    rows = [{"layer": f"layer{i}", "gradient": value} for i, value in enumerate(gradients)]
    return SimpleNamespace(probe=Probed(initial={"flow": rows}, trained={"flow": rows[::-1]}))


def test_gradients_are_compared_along_the_net_and_averaged_as_logarithms():
    assert first_to_last([probed(8.0, 1.0, 2.0)], "initial") == pytest.approx(4)
    assert first_to_last([probed(8.0, 1.0, 2.0)], "trained") == pytest.approx(0.25)
    assert first_to_last([probed(1.0, 1.0), probed(100.0, 1.0)], "initial") == pytest.approx(10)


def test_shortcuts_and_classifiers_are_left_out():
    flow = [{"layer": name} for name in ("stem.conv", "stages.0.shortcut.conv", "blocks.conv", "fc", "classifier.fc1")]
    assert [row["layer"] for row in convolutions(flow)] == ["stem.conv", "blocks.conv"]


@pytest.mark.parametrize(
    ("name", "depth"),
    [("resnet20", 20), ("vgg16-cifar", 16), ("densenet-bc-52-12", 52), ("resnet56", 56), ("densenet121", 121)],
)
def test_layers_are_counted_as_the_papers_do(name, depth):
    assert layers(create(name)) == depth


def test_a_row_for_each_arm_and_budget(data):
    study = find_study("vgg-resnet-densenet")
    records = run(study, budget="smoke", arms=["ResNet-20"], data=data, progress=False)
    other = dataclasses.replace(records[0], run=dataclasses.replace(records[0].run, budget="short", steps=100))
    text = str(overview(study, [*records, other]))
    rows = [line for line in text.splitlines() if line.startswith("ResNet-20")]
    assert [row.split()[1:4] for row in rows] == [["smoke", "20", "addition"], ["short", "20", "addition"]]
    assert "269,722" in rows[0]
    assert "40,551,040" in rows[0]
    assert "1.51" in rows[0]  # MB kept for one image
    assert "short: speed and time on" in text


def test_what_cannot_be_shown_is_refused(data):
    study = find_study("vgg-resnet-densenet")
    with pytest.raises(StudyError, match="there are no records"):
        overview(study, [])
    with pytest.raises(StudyError, match="probe measures"):
        overview(study, [SimpleNamespace(probe=None)])
