"""The lecture's table, from records."""

import dataclasses
from types import SimpleNamespace

import pytest

from cnnlib.models import create
from cnnlib.studies import Probed, StudyError, find_study, first_to_last, load_records, overview, run
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


def test_a_column_for_each_arm_of_the_longest_budget(data):
    study = find_study("vgg-resnet-densenet")
    records = run(study, budget="smoke", arms=["VGG-16, narrow", "ResNet-20"], data=data, progress=False)
    longer = [dataclasses.replace(r, run=dataclasses.replace(r.run, budget="short", steps=100)) for r in records]
    table = overview(study, [*records, *longer])
    rows = {row[0]: row[1:] for row in table.rows}
    assert [column.heading for column in table.columns] == ["", "VGG-16, narrow", "ResNet-20"]
    assert rows["layers"] == ("16", "20")
    assert rows["connection"] == ("no shortcut", "addition")
    assert rows["parameters"] == ("271,269", "269,722")
    assert rows["memory of training, MB an image"] == ("0.34", "1.51")
    assert rows["steps"] == ("100", "100")
    assert "short budget" in table.caption
    seconds = 100 * 16 / records[1].run.images_per_second
    assert float(rows["time of all steps, s"][1].replace(",", "")) == pytest.approx(seconds, rel=0.06)
    assert dict(row[:2] for row in overview(study, [*records, *longer], "smoke").rows)["steps"] == "2"


def test_speeds_of_several_machines_are_not_averaged(data):
    study = find_study("vgg-resnet-densenet")
    (one,) = run(study, budget="smoke", arms=["ResNet-20"], data=data, progress=False)
    other = dataclasses.replace(one, run=dataclasses.replace(one.run, seed=1, device="another"))
    rows = dict(row[:2] for row in overview(study, [one, other]).rows)
    assert rows["speed of training, images/s"] == rows["time of all steps, s"] == "–"


def test_recorded_trainings_of_equal_time_took_it():
    study = find_study("equal-time")
    table = overview(study, load_records(study), "short")
    rows = {row[0]: row[1:] for row in table.rows}
    assert len({float(seconds) for seconds in rows["time of all steps, s"]}) == 1
    assert len(set(rows["steps"])) == 3
    assert "Speed and time are those of one" in str(table)


def test_trainings_on_another_machine_are_not_shown_with_the_recorded_speeds():
    study = find_study("equal-time")
    there = [
        dataclasses.replace(one, run=dataclasses.replace(one.run, images_per_second=1234.0, steps=one.run.steps + 1))
        for one in load_records(study, "short")
    ]
    table = overview(study, there)
    assert set({row[0]: row[1:] for row in table.rows}["speed of training, images/s"]) == {"1,234"}
    assert "Speed and time are those of one" not in str(table)


def test_what_cannot_be_shown_is_refused(data):
    study = find_study("vgg-resnet-densenet")
    with pytest.raises(StudyError, match="there are no such records"):
        overview(study, [])
    with pytest.raises(StudyError, match="probe measures"):
        overview(study, [dataclasses.replace(load_records(study, "short")[0], probe=None)])
    with pytest.raises(StudyError, match="at least one record"):
        first_to_last([], "initial")
    for name in ("degradation", "lesions", "kernel-stacks"):
        with pytest.raises(StudyError, match=rf"families\.inside\); '{name}' has another, or none"):
            overview(find_study(name), load_records(find_study(name), "short"))
