import dataclasses
import json
import math

import pytest

from cnnlib.training import Evaluation, Run, RunError, fit
from cnnlib.training.words import in_words, percent

SMALL = ("alexnet-cifar", {"width": 0.125})


@pytest.fixture
def run(data, recipe):
    return fit(SMALL, data, recipe.limited(epochs=1.5), seed=1, progress=False, budget="smoke", log_every=4)


def test_json_is_lossless(run, tmp_path):
    path = run.save(tmp_path / "new" / "run.json")
    again = Run.load(path)
    assert again == run
    assert again.module is None
    assert dataclasses.asdict(dataclasses.replace(run, module=None)) == dataclasses.asdict(again)
    json.loads(path.read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"model": "x"}', "\udcff".encode("utf-8", "surrogateescape"), "null"),
        *("[" * 100_000, "1" * 5000),
    ],
    ids=lambda content: str(content)[:20],
)
def test_a_file_that_holds_no_run(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunError, match=r"run.json holds no run"):
        Run.load(path)


def test_a_folder_is_no_run(tmp_path):
    with pytest.raises(RunError, match="is a folder, and no run"):
        Run.load(tmp_path)


def test_unknown_and_missing_values(run, tmp_path):
    values = run.as_dict()
    with pytest.raises(RunError, match="surprise"):
        Run.from_dict(values | {"surprise": 1})
    del values["seed"]
    with pytest.raises(RunError, match="seed"):
        Run.from_dict(values)


def test_a_recipe_that_makes_no_sense_is_named_with_the_file(run, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run.as_dict() | {"recipe": run.recipe.as_dict() | {"lr": -1}}))
    with pytest.raises(RunError, match=r"run.json holds no run of cnnlib \(.*lr must be positive and finite, not -1\)"):
        Run.load(path)


def test_the_result_as_text_and_html(run):
    text, html = str(run), run._repr_html_()
    for shown in (f"{run.test_error:.2f} %", f"{run.train_error:.2f} %", "seed 1", f"{run.parameters:,}", "1 thread"):
        assert shown in text
        assert shown in html
    assert "alexnet-cifar (width=0.125) on CIFAR-10" in text
    assert "(full length: 4 epochs)" in text
    assert '<table class="cnn-table">' in html


def test_a_part_of_a_large_training_set_is_said(run):
    part = dataclasses.replace(run, train_images=50_000, train=dataclasses.replace(run.train, n=10_000))
    assert "50,000 images, measured on 10,000 of them" in str(part)


def test_durations_and_errors_in_words():
    assert [in_words(s) for s in (0.04, 59.94, 59.96, 61, 3599.7, 12000)] == [
        "0.0 s",
        "59.9 s",
        "1 min 0 s",
        "1 min 1 s",
        "1 h 0 min",
        "3 h 20 min",
    ]
    assert (percent(12.345), percent(None)) == ("12.35 %", "–")


def test_the_table_says_which_error_and_loss_is_which(run):
    run = dataclasses.replace(run, test=Evaluation(1.25, 40.0, 40), train=Evaluation(0.5, 20.0, 96))
    rows = dict(run.table().rows)
    assert (rows["test error"], rows["training error"]) == ("40.00 % (40 images)", "20.00 % (96 images)")
    assert (rows["test loss"], rows["training loss"]) == ("1.2500", "0.5000")


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_json_cannot_hold_makes_no_run_unreadable(run, tmp_path, loss):
    (*points, last), test = run.history, dataclasses.replace(run.test, loss=loss)
    history = (*points, dataclasses.replace(last, test_loss=loss))
    again = Run.load(dataclasses.replace(run, test=test, history=history).save(tmp_path / "run.json"))
    assert math.isnan(again.test.loss)
    assert again.history[-1].test_loss is None
    assert again.test_error == run.test_error
