"""Averages of networks of several arms and seeds."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cnnlib.studies import Mixtures, RecordError, StudyError, load_mixtures, mix, run, run_mixtures
from cnnlib.studies.mixtures import mixtures_name


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


def record(arm, seed, *logits):
    run = SimpleNamespace(
        module=Says([list(pair) for pair in logits]), seed=seed, budget="smoke", data="CIFAR-10", train_images=8
    )
    return SimpleNamespace(arm=arm, run=run)


@pytest.fixture
def networks():
    sure = (3.0, 0.0), (0.0, 3.0), (0.0, 3.0), (3.0, 0.0)  # right, right, wrong, wrong
    weak = (0.0, 1.0), (0.0, 1.0), (5.0, 0.0), (1.0, 0.0)  # wrong, right, surely right, wrong
    return [record("A", 0, *sure), record("A", 1, *sure), record("B", 0, *weak), record("B", 1, *weak)]


def test_every_pair_by_kind(networks, four):
    mixtures = mix("test", networks, four)
    assert [(row.arms, row.seeds) for row in mixtures.mixtures] == [
        (("A", "A"), (0, 1)),
        *((("A", "B"), (a, b)) for a in (0, 1) for b in (0, 1)),
        (("B", "B"), (0, 1)),
    ]
    same, other = mixtures.of("A", "A")[0], mixtures.of("B", "A")[0]
    assert (same.error, same.gain, same.all_wrong) == (50, 0, 50)
    assert (other.error, other.gain, other.all_wrong) == (25, 25, 25)
    assert other.alone == (50, 50)
    text = str(mixtures)
    assert "A, 2 seeds" in text
    assert "25.00 ± 0.00" in text


def test_the_gain_is_over_the_best_member(four):
    right, half = ((3.0, 0.0), (0.0, 3.0), (3.0, 0.0), (0.0, 3.0)), ((1.0, 0.0), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0))
    (mixture,) = mix("test", [record("A", 0, *right), record("B", 0, *half)], four).mixtures
    assert (mixture.alone, mixture.error, mixture.gain) == ((0, 50), 0, 0)


def test_the_order_of_the_records_changes_nothing(networks, four):
    assert mix("test", [networks[0], networks[3], networks[1], networks[2]], four) == mix("test", networks, four)


def test_what_cannot_be_averaged(networks, four):
    with pytest.raises(StudyError, match=r"\('A', 0\) is there 2 times"):
        mix("test", [*networks, networks[0]], four)
    with pytest.raises(StudyError, match="different data cannot be averaged: CIFAR-10, CIFAR-100"):
        mix("test", networks, dataclasses.replace(four, name="CIFAR-100"))
    for what, other in (("budget", "short"), ("train_images", 7)):
        odd = record("B", 2, *[(0.0, 1.0)] * 4)
        setattr(odd.run, what, other)
        with pytest.raises(StudyError, match=f"these differ in {what}"):
            mix("test", [*networks, odd], four)


def test_three_of_a_kind_and_one_of_each(networks, four):
    more = [*networks, record("A", 2, *[(0.0, 1.0)] * 4), record("C", 0, *[(1.0, 0.0)] * 4)]
    mixtures = mix("test", more, four)
    assert [row.seeds for row in mixtures.of("A", "A", "A")] == [(0, 1, 2)]
    assert [row.seeds for row in mixtures.of("A", "B", "C")] == [(0, 0, 0)]
    assert len(mixtures.of("A", "C")) == 3


def test_probabilities_are_averaged(four):
    """Two who think it is class 0 outvote one who is surer of class 1."""
    rest = (0.0, 9.0), (9.0, 0.0), (0.0, 9.0)
    three = [record("A", 0, (1.4, 0.0), *rest), record("A", 1, (1.4, 0.0), *rest), record("A", 2, (0.0, 3.0), *rest)]
    (all_three,) = mix("test", three, four).of("A", "A", "A")
    assert (all_three.alone, all_three.error) == ((0, 0, 25), 0)


def test_they_are_saved_and_read(networks, four, tmp_path):
    mixtures = mix("test", networks, four)
    assert Mixtures.load(mixtures.save(tmp_path / "new" / "mixtures.json")) == mixtures
    (tmp_path / "binary.json").write_bytes(b"\xff")
    for name in ("nothing.json", "binary.json"):
        with pytest.raises(RecordError, match=rf"{name} holds no averages"):
            Mixtures.load(tmp_path / name)


@pytest.mark.parametrize("values", [[1.0], "none", 3])
def test_averages_of_other_than_their_networks_are_damaged(networks, four, tmp_path, values):
    path = mix("test", networks, four).save(tmp_path / "mixtures.json")
    content = json.loads(path.read_text())
    content["mixtures"][0]["alone"] = values
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"mixtures.json holds no averages of networks \(.*delete it"):
        Mixtures.load(path)


@pytest.mark.parametrize(
    "change", [{"images": "many"}, {"mixtures": [{"arms": [], "seeds": [], "alone": [], "error": 1, "all_wrong": 1}]}]
)
def test_averages_that_make_no_table_are_damaged(networks, four, tmp_path, change):
    path = mix("test", networks, four).save(tmp_path / "mixtures.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RecordError, match=r"mixtures.json holds no averages of networks \(.*delete it"):
        Mixtures.load(path)


def test_what_cannot_be_averaged_is_refused(networks, four):
    with pytest.raises(StudyError, match="at least two networks, and there are 1"):
        mix("test", networks[:1], four)
    networks[0].run.module = None
    with pytest.raises(StudyError, match="has no network"):
        mix("test", networks, four)


def test_a_study_keeps_the_networks_of_its_mixed_arms(study, data, tmp_path):
    study = dataclasses.replace(study, ensemble=None, mixed=("wide",))
    images = study.images(data, study.scale("smoke"))
    first = run(study, budget="smoke", data=data, folder=tmp_path, progress=False)
    again = run(study, budget="smoke", data=data, folder=tmp_path, progress=False)
    assert [record.run.module is None for record in again] == [False, False, True, True]
    mixtures = run_mixtures(study, again, images)
    assert mixtures == run_mixtures(study, first, images)
    assert {row.arms for row in mixtures.mixtures} == {("wide", "wide")}
    mixtures.save(tmp_path / study.name / mixtures_name("smoke"))
    assert load_mixtures(study, "smoke", tmp_path) == mixtures
    assert run_mixtures(study, again[2:], images) is None


def test_the_table_tells_the_best_member_from_the_mean_of_all(four):
    right, half = ((3.0, 0.0), (0.0, 3.0), (3.0, 0.0), (0.0, 3.0)), [(1.0, 0.0)] * 4
    (row,) = mix("test", [record("A", 0, *right), record("B", 0, *half)], four).table().rows
    assert row == ("A + B", "1", "25.00", "0.00", "0.00", "0.00", "0.00")
