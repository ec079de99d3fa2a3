import dataclasses
import re
import signal

import pytest

from cnnlib.studies import STUDIES, Record, Scale, StudyError, load_ensemble, load_mixtures, load_records
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


@pytest.mark.parametrize("options", [["--budget", "smoke"], ["--seeds", "0"], ["--publish"], ["--jobs", "8"]])
def test_options_without_a_name_are_not_ignored(cnn, options):
    status, out, err = cnn("study", *options)
    assert (status, out) == (2, "")
    assert "name a study, or give --all" in err


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


def test_what_is_recorded_is_compared_seed_after_seed(cnn, tmp_path):
    for seed in "01":
        status, out, _ = cnn("study", "test", "--budget", "smoke", "--arms", "wide", "--seeds", seed)
        assert status == 0
        assert "(1)" in out
        assert "narrow" not in out, "it was not asked for"
    status, out, _ = cnn("compare", "test", "--budget", "smoke", "--out", "runs/studies")
    assert status == 0
    assert "(2)" in out
    assert "narrow (all)" in out
    for wrong, said in (
        (["--out", "elsewhere"], "no records in elsewhere/test"),
        (["--out", "runs/studies", "--budget", "short"], "no records of the budget short in runs/studies/test"),
        (["--out", "runs/studies", "--arms", "high"], "high"),
    ):
        status, out, err = cnn("compare", "test", *wrong)
        assert (status, out) == (2, "")
        assert said in err


@pytest.mark.parametrize(
    "command",
    [
        ["study", "test", "--budget", "smoke", "--arms", "high"],
        ["study", "test", "--budget", "smoke", "--seeds", "-1"],
        ["study", "test", "--budget", "smoke", "--jobs", "0"],
        ["search", "--budget", "smoke", "--arms", "annealing"],
        ["search", "--budget", "smoke", "--seeds", "-1"],
        ["search", "--budget", "tiny"],
        ["speed", "--rounds", "0"],
        ["speed", "--device", "gpu"],
        ["speed", "--precision", "fp8"],
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_data_are_loaded(cnn, monkeypatch, command):
    monkeypatch.setattr("cnnlib.training.cli.load_data", lambda *_, **__: pytest.fail("they were loaded"))
    assert cnn(*command)[0] == 2


@pytest.fixture
def another(study, monkeypatch):
    """A second study of the same arms."""
    other = dataclasses.replace(study, name="other", question="Does it matter, too?", ensemble=None)
    monkeypatch.setitem(STUDIES, "other", other)
    return other


def test_several_studies_are_one_queue(cnn, study, another, tmp_path, monkeypatch):
    trained, save = [], Record.save
    monkeypatch.setattr(
        Record, "save", lambda record, folder: trained.append((record.study, record.run.seed)) or save(record, folder)
    )
    status, out, _ = cnn("study", "test", "other", "--budget", "smoke")
    assert status == 0
    assert trained == [(name, seed) for seed in (0, 1) for name in ("test", "test", "other", "other")]
    assert out.index("Does it matter?") < out.index("the 2 averaged") < out.index("Does it matter, too?")
    for one in (study, another):
        assert len(load_records(one, "smoke", tmp_path / "runs" / "studies")) == 4
    assert cnn("study", "test", "other", "--budget", "smoke")[1] == out


def test_all_are_those_that_have_the_budget(cnn, study, another, monkeypatch):
    for name in [*STUDIES]:
        if name not in ("test", "other"):
            monkeypatch.delitem(STUDIES, name)
    monkeypatch.setitem(STUDIES, "other", dataclasses.replace(another, budgets={"full": Scale()}))
    status, out, _ = cnn("study", "--all", "--budget", "smoke", "--seeds", "0")
    assert status == 0
    assert "Does it matter?" in out
    assert "too?" not in out


def test_one_arm_and_one_seed(cnn, study, tmp_path):
    cnn("study", "test", "--budget", "smoke", "--arms", "narrow", "--seeds", "5", "--out", "here")
    assert [(r.arm, r.run.seed) for r in load_records(study, folder=tmp_path / "here")] == [("narrow", 5)]


def test_publishing(cnn, study, tmp_path, monkeypatch):
    monkeypatch.setattr("cnnlib.studies.running.SHIPPED", tmp_path / "shipped")
    _, out, _ = cnn("study", "test", "--budget", "smoke", "--publish")
    assert out.count("published ") == 5
    assert len(load_records(study, "smoke", tmp_path / "shipped")) == 4


@pytest.mark.parametrize("command", [("study", "test"), ("search",)])
def test_nothing_is_trained_that_could_not_be_published(cnn, stand_in, monkeypatch, command):
    monkeypatch.setattr("cnnlib.data.load", lambda *_, **__: stand_in)
    monkeypatch.setattr(step_module.Step, "__call__", lambda *_: pytest.fail("something was trained"))
    status, out, err = cnn(*command, "--budget", "smoke", "--publish")
    assert (status, out) == (2, "")
    assert err.endswith("bring the data set (CNNLIB_DATA), or leave out --publish\n")


@pytest.mark.parametrize(("failing", "published"), [("narrow", 7), ("wide", 4)])
def test_a_failure_holds_no_table_back(cnn, study, another, tmp_path, monkeypatch, failing, published):
    arm = study.arms[failing]
    hot = dataclasses.replace(arm, recipe=arm.recipe.replace(lr=1e9))
    monkeypatch.setitem(STUDIES, "test", dataclasses.replace(study, arms=study.arms | {failing: hot}))
    monkeypatch.setattr("cnnlib.studies.running.SHIPPED", tmp_path / "shipped")
    status, out, err = cnn("study", "test", "other", "--budget", "smoke", "--publish")
    assert status == 2
    assert f"2 of 8 trainings are not done, and the others are recorded:\ntest, {failing}, seed 0" in err
    assert ("holds no ensemble" in err) == (failing == "wide"), "which cannot be published without"
    assert out.index("Does it matter?") < out.index("Does it matter, too?")
    assert ("the 2 averaged" in out) == (failing == "narrow")
    assert out.count("published ") == published


def test_tables_that_cannot_be_made_hold_no_other_back(cnn, study, another, monkeypatch):
    def refused(*_):
        raise StudyError("these cannot be averaged")

    monkeypatch.setattr("cnnlib.studies.run_ensemble", refused)
    status, out, err = cnn("study", "test", "other", "--budget", "smoke", "--seeds", "0")
    assert status == 2
    assert out.count("records in ") == 0
    assert err.endswith("these cannot be averaged\nthese cannot be averaged\n")
    assert out.index("Does it matter?") < out.index("Does it matter, too?")


def test_averages_of_fewer_networks_replace_none(cnn, study, tmp_path, monkeypatch):
    study = dataclasses.replace(study, mixed=("wide", "narrow"))
    monkeypatch.setitem(STUDIES, "test", study)
    folder, smoke = tmp_path / "runs" / "studies", ("study", "test", "--budget", "smoke")

    def saved():
        return load_ensemble(study, "smoke", folder), load_mixtures(study, "smoke", folder)

    for partial in (("--seeds", "1", "2"), ("--arms", "wide", "--seeds", "1", "2")):
        _, out, _ = cnn(*smoke, *partial)
        assert "the 2 averaged" in out
        assert "not saved: of the 2 networks to be averaged in runs/studies/test/smoke-wide-ensemble.json" in out
        assert "not saved: of the 4 networks to be averaged in runs/studies/test/smoke-mixtures.json" in out
        assert list((folder / "test").glob("*-ensemble.json")) == list((folder / "test").glob("*-mixtures.json")) == []
    cnn(*smoke)
    assert saved()[0].seeds == (0, 1), "those of the budget"
    assert "not saved" not in cnn(*smoke, "--seeds", "0", "1", "2")[1]
    ensemble, mixtures = saved()
    assert (len(ensemble.networks), len(mixtures.networks)) == (3, 6)
    assert cnn(*smoke)[1].count("this call left out") == 2
    assert saved() == (ensemble, mixtures)


def test_networks_that_are_gone_are_named(cnn, study, tmp_path):
    cnn("study", "test", "--budget", "smoke")
    (tmp_path / "runs" / "studies" / "test" / "smoke-wide-seed1.checkpoint").unlink()
    status, out, _ = cnn("study", "test", "--budget", "smoke")
    assert status == 0
    assert (
        "not averaged, since their checkpoints are gone: wide, seed 1; delete their records to train them again" in out
    )
    assert "the 2 averaged" not in out


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
        (["study", "--all", "--budget", "smoke", "--arms", "wide"], "--arms names arms of one study, and there are"),
        (["study", "test", "--budget", "smoke", "--jobs", "0"], "jobs must be at least 1, not 0"),
        (["study", "test", "--budget", "smoke", "--seeds", "-1"], "seed must be a whole number from 0 .* not -1"),
        (["study", "test", "--budget", "smoke", "--out", "file/here"], "cannot write into the folder file/here: Not a"),
        (["search", "--budget", "smoke", "--seeds", "-1"], "seed must be a whole number from 0 .* not -1"),
        (["search", "--budget", "smoke", "--out", "file/here"], "cannot write into the folder file/here: Not a direct"),
        (["speed", "--rounds", "0"], "rounds must be at least 1, not 0"),
        (["speed", "--out", "file/speed.json"], "cannot write into the folder file: it is no folder"),
        (["study", "test", "--all"], "--all runs every study; leave out test, or --all"),
    ],
)
def test_mistakes_are_one_clear_error(cnn, arguments, message, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for work in ("search._one", "speed.limits", "running.fit"):
        monkeypatch.setattr(f"cnnlib.studies.{work}", lambda *_, **__: pytest.fail("the work began"))
    status, _, err = cnn(*arguments)
    assert status == 2
    assert re.search(f"error: .*{message}", err)


def test_several_processes_are_refused(cnn, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = cnn("study", "test", "--budget", "smoke")
    assert status == 2
    assert "a study trains in one process" in err
