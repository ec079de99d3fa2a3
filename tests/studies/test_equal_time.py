"""Trainings of equal time."""

import dataclasses
import json
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from cnnlib.files import write_json
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


def test_two_at_once_train_by_the_same_lengths(timed, data, tmp_path, monkeypatch):
    asked = []

    def slow(study, scale, images):
        asked.append(study.name)
        time.sleep(0.3)
        return {"wide": 500.0 * len(asked), "narrow": 1000.0}

    monkeypatch.setattr(equal_time, "speeds", slow)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(equal_time.lengths, timed, timed.scale("smoke"), data, tmp_path / "x") for _ in range(2)]
    assert [future.result() for future in both] == 2 * [{"wide": 2, "narrow": 4}]
    assert len(asked) == 1
    assert [*tmp_path.iterdir()] == [tmp_path / "x"]


def test_lengths_are_published_with_the_records(timed, data, speeds, tmp_path):
    run(timed, budget="smoke", seeds=[0], data=data, progress=False, folder=tmp_path / "runs")
    written = publish(timed, "smoke", tmp_path / "runs", destination=tmp_path / "shipped")
    assert [path.name for path in written][-1] == "smoke-lengths.json"
    assert equal_time.recorded_speeds(timed, "smoke", tmp_path / "shipped") == {"wide": 500.0, "narrow": 1000.0}
    assert equal_time.recorded_speeds(timed, "short", tmp_path / "shipped") == {}


def test_an_arm_with_smaller_batches_takes_more_steps(timed, data, speeds):
    wide = timed.arms["wide"]
    halved = dataclasses.replace(wide, recipe=wide.recipe.replace(batch_size=10))
    timed = dataclasses.replace(timed, arms=timed.arms | {"wide": halved})
    assert equal_time.lengths(timed, timed.scale("smoke"), data) == {"wide": 4, "narrow": 4}


def test_a_speed_is_the_median_of_rounds_in_which_the_arms_take_turns(timed, data, monkeypatch):
    rates = iter([1.0, 30.0, 9.0, 10.0, 2.0, 20.0])  # wide, narrow, wide, narrow, wide, narrow
    trained = []

    def measured(model, *_, precision, **__):
        trained.append((*model, precision))
        return SimpleNamespace(images_per_second=next(rates))

    monkeypatch.setattr(equal_time, "fit", measured)
    timed = dataclasses.replace(
        timed, arms=timed.arms | {"narrow": dataclasses.replace(timed.arms["narrow"], precision="bf16")}
    )
    assert equal_time.speeds(timed, timed.scale("smoke"), data) == {"wide": 2.0, "narrow": 20.0}
    assert trained == 3 * [(arm.model, arm.overrides, arm.precision) for arm in timed.arms.values()]


def test_recorded_speeds_belong_to_their_lengths_alone(timed, data, speeds, tmp_path, monkeypatch):
    run(timed, budget="smoke", seeds=[0], data=data, progress=False, folder=tmp_path)
    monkeypatch.setattr(equal_time, "SHIPPED", tmp_path)
    assert equal_time.speeds_behind(timed, "smoke", {"wide": 2}) == {"wide": 500.0, "narrow": 1000.0}
    assert equal_time.speeds_behind(timed, "smoke", {"wide": 3, "narrow": 4}) == {}
    assert equal_time.speeds_behind(timed, "short", {"wide": 2}) == {}


def test_a_record_of_another_recipe_still_does_not_fit(timed, data, speeds, tmp_path):
    run(timed, budget="smoke", seeds=[0], data=data, progress=False, folder=tmp_path)
    faster = {name: dataclasses.replace(arm, recipe=arm.recipe.replace(lr=0.02)) for name, arm in timed.arms.items()}
    with pytest.raises(RecordError, match=r"lr is 0\.01, not 0\.02"):
        load_records(dataclasses.replace(timed, arms=faster), "smoke", tmp_path)


def test_the_length_that_the_others_follow_is_that_of_the_study(timed, data, speeds, tmp_path):
    run(timed, budget="smoke", seeds=[0], data=data, progress=False, folder=tmp_path)
    (tmp_path / "test" / "smoke-wide-seed0.json").unlink()
    longer = dataclasses.replace(timed, budgets={"smoke": dataclasses.replace(timed.scale("smoke"), steps=6)})
    with pytest.raises(RecordError, match="steps is 4, not 6"):
        load_records(longer, "smoke", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no JSON", "holds no lengths"),
        (b"\xff", "holds no lengths"),
        (b'{"steps": {"wide": 2, "narrow": 4}}', r"holds no lengths of trainings \('images_per_second'\)"),
        (b'{"steps": {"wide": 2}, "images_per_second": {"wide": 500}}', "other arms"),
        (b'{"steps": {"wide": 2, "narrow": "x"}, "images_per_second": {"wide": 1, "narrow": 2}}', "not 'x'.; delete"),
        (b'{"steps": {"wide": 2, "narrow": 4}, "images_per_second": {"wide": 0, "narrow": 2}}', "is not positive"),
        (b'{"steps": {"wide": 2, "narrow": 4}, "images_per_second": {"wide": null, "narrow": 2}}', "holds no lengths"),
        (
            b'{"steps": {"wide": 1, "narrow": 2}, "images_per_second": {"wide": 500, "narrow": 1000}}',
            "lengths.json was made for 2 steps of 'narrow', not 4; delete it",
        ),
    ],
)
def test_a_bad_file_of_lengths_is_refused(timed, data, speeds, tmp_path, content, message):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "smoke-lengths.json").write_bytes(content)
    with pytest.raises(RecordError, match=message):
        run(timed, budget="smoke", data=data, progress=False, folder=tmp_path)


def test_speeds_are_those_of_real_trainings(timed, data):
    speeds = equal_time.speeds(timed, timed.scale("smoke"), data)
    assert speeds.keys() == timed.arms.keys()
    assert all(speed > 0 for speed in speeds.values())


def test_speeds_are_measured_in_a_few_steps(timed, data, monkeypatch):
    lengths = []

    def measured(model, images, recipe, **_):
        lengths.append((recipe.steps(len(images.train_labels)), recipe.batch_size))
        return SimpleNamespace(images_per_second=1.0)

    monkeypatch.setattr(equal_time, "fit", measured)
    equal_time.speeds(timed, timed.scale("full"), data)
    assert lengths == 6 * [(equal_time.STEPS["cpu"], 20)]


def test_the_slowest_takes_a_step(timed, data, monkeypatch):
    monkeypatch.setattr(equal_time, "speeds", lambda *_: {"wide": 1.0, "narrow": 1000.0})
    assert equal_time.lengths(timed, timed.scale("smoke"), data) == {"wide": 1, "narrow": 4}


@pytest.mark.parametrize("kind", ["steps", "images_per_second"])
def test_lengths_of_other_arms_are_refused(timed, tmp_path, kind):
    content = {"steps": {"wide": 2, "narrow": 4}, "images_per_second": {"wide": 500, "narrow": 1000}}
    del content[kind]["wide"]
    path = tmp_path / "lengths.json"
    write_json(path, content)
    with pytest.raises(RecordError, match="other arms"):
        equal_time.load(timed, path)
