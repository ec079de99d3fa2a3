"""Trainings of equal time."""

import dataclasses
import json

import pytest

from cnnlib.studies import RecordError, equal_time, load_records, publish, run


@pytest.fixture
def timed(study):
    return dataclasses.replace(study, ensemble=None, equal_time="narrow")


@pytest.fixture
def speeds(monkeypatch):
    """The wide net trains half as fast as the narrow one; counts how often that was measured."""
    asked = []

    def measured(study, scale, images):
        asked.append(study.name)
        return {"wide": 500.0, "narrow": 1000.0}

    monkeypatch.setattr(equal_time, "speeds", measured)
    return asked


def test_the_others_train_as_long_as_one_does(timed, data, speeds):
    records = run(timed, budget="smoke", seeds=[0], data=data, progress=False)
    assert {record.arm: record.run.steps for record in records} == {"wide": 2, "narrow": 4}
    assert records[0].run.recipe.full_length == "20 epochs"


def test_lengths_are_measured_once_and_kept(timed, data, speeds, tmp_path):
    go = {"budget": "smoke", "data": data, "progress": False, "folder": tmp_path}
    first = run(timed, seeds=[0], **go)
    more = run(timed, seeds=[0, 1], **go)
    assert len(speeds) == 1
    assert [record.run.steps for record in more] == [2, 2, 4, 4]
    assert load_records(timed, "smoke", tmp_path) == more
    assert more[0] == first[0]
    kept = json.loads((tmp_path / "test" / "smoke-lengths.json").read_text())
    assert kept["steps"] == {"wide": 2, "narrow": 4}


def test_lengths_are_published_with_the_records(timed, data, speeds, tmp_path):
    run(timed, budget="smoke", seeds=[0], data=data, progress=False, folder=tmp_path / "runs")
    written = publish(timed, "smoke", tmp_path / "runs", destination=tmp_path / "shipped")
    assert [path.name for path in written][-1] == "smoke-lengths.json"
    assert equal_time.recorded_speeds(timed, "smoke", tmp_path / "shipped") == {"wide": 500.0, "narrow": 1000.0}
    assert equal_time.recorded_speeds(timed, "short", tmp_path / "shipped") == {}


def test_a_record_of_another_recipe_still_does_not_fit(timed, data, speeds, tmp_path):
    run(timed, budget="smoke", seeds=[0], data=data, progress=False, folder=tmp_path)
    faster = {name: dataclasses.replace(arm, recipe=arm.recipe.replace(lr=0.02)) for name, arm in timed.arms.items()}
    with pytest.raises(RecordError, match=r"lr is 0\.01, not 0\.02"):
        load_records(dataclasses.replace(timed, arms=faster), "smoke", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"), [("no JSON", "holds no lengths"), ('{"steps": {"wide": 2}}', "other arms")]
)
def test_a_bad_file_of_lengths_is_refused(timed, data, speeds, tmp_path, text, message):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "smoke-lengths.json").write_text(text)
    with pytest.raises(RecordError, match=message):
        run(timed, budget="smoke", data=data, progress=False, folder=tmp_path)


def test_speeds_are_those_of_real_trainings(timed, data):
    speeds = equal_time.speeds(timed, timed.scale("smoke"), data)
    assert speeds.keys() == timed.arms.keys()
    assert all(speed > 0 for speed in speeds.values())
