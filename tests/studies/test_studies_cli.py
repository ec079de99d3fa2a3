import re
import signal

import pytest

from cnnlib.studies import STUDIES, load_ensemble, load_records
from cnnlib.training import step as step_module


@pytest.fixture(autouse=True)
def _listed(study, monkeypatch):
    monkeypatch.setitem(STUDIES, "test", study)


def test_without_a_name_the_studies_are_listed(cnn):
    status, out, _ = cnn("study")
    assert status == 0
    for name, study in STUDIES.items():
        assert name in out
        assert study.question in out


def test_a_study_is_run_compared_and_recorded(cnn, study, tmp_path):
    status, out, err = cnn("study", "test", "--budget", "smoke")
    assert status == 0
    assert "Does it matter? CIFAR-10, 40 training images" in out
    assert "the 2 averaged" in out
    assert "120 training and 60 test images" in err
    records = load_records(study, "smoke", tmp_path / "runs" / "studies")
    assert len(records) == 4
    averaged = load_ensemble(study, "smoke", tmp_path / "runs" / "studies")
    assert averaged.alone == pytest.approx(tuple(r.run.test_error for r in records if r.arm == "wide"))
    again = cnn("study", "test", "--budget", "smoke")
    assert again[1] == out, "nothing is trained again, and the result is the same"


def test_one_arm_and_one_seed(cnn, study, tmp_path):
    cnn("study", "test", "--budget", "smoke", "--arms", "narrow", "--seeds", "5", "--out", "here")
    assert [(r.arm, r.run.seed) for r in load_records(study, folder=tmp_path / "here")] == [("narrow", 5)]


def test_publishing(cnn, study, tmp_path, monkeypatch):
    monkeypatch.setattr("cnnlib.studies.running.SHIPPED", tmp_path / "shipped")
    _, out, _ = cnn("study", "test", "--budget", "smoke", "--publish")
    assert out.count("published ") == 5
    assert len(load_records(study, "smoke", tmp_path / "shipped")) == 4


def test_ctrl_c(cnn, monkeypatch):
    step = step_module.Step.__call__

    def interrupted(self, *arguments):
        signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    monkeypatch.setattr(step_module.Step, "__call__", interrupted)
    status, _, err = cnn("study", "test", "--budget", "smoke")
    assert status == 130
    assert "stopped at step 1 of 4" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "tset"], "there is no study 'tset'"),
        (["study", "test", "--budget", "medium"], "no medium budget"),
        (["study", "test", "--budget", "smoke", "--arms", "broad"], "no arm 'broad'"),
    ],
)
def test_mistakes_are_one_clear_error(cnn, arguments, message):
    status, _, err = cnn(*arguments)
    assert status == 2
    assert re.search(f"error: .*{message}", err)


def test_several_processes_are_refused(cnn, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = cnn("study", "test", "--budget", "smoke")
    assert status == 2
    assert "a study trains in one process" in err
