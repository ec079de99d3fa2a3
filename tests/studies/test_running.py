import contextlib
import dataclasses
import gc
import json
import pathlib
import re
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from cnnlib.files import locked
from cnnlib.models import create
from cnnlib.settings import UnknownBudget
from cnnlib.studies import (
    Record,
    RecordError,
    StudyError,
    Unfinished,
    compare,
    find_study,
    load_ensemble,
    load_mixtures,
    load_records,
    overview,
    publish,
    register,
    run,
    run_ensemble,
    run_mixtures,
    run_studies,
    running,
    search,
    with_recorded,
)
from cnnlib.studies.queue import Task
from cnnlib.studies.record import SHIPPED
from cnnlib.training import Diverged, OutOfMemory, checkpoint, evaluation
from cnnlib.training import step as step_module
from cnnlib.training.interrupts import STOP, Interrupts


class Killed(Exception):
    """Stands for the end of the process."""


def go(study, data, **options):
    return run(study, budget=options.pop("budget", "smoke"), data=data, progress=False, **options)


def names(folder):
    return sorted(path.name for path in (folder / "test").iterdir())


def count_steps(monkeypatch, die_at=None):
    """Count training steps, and fail at one."""
    steps, step = [], step_module.Step.__call__

    def counted(self, *arguments):
        steps.append(1)
        if len(steps) == die_at:
            raise Killed
        return step(self, *arguments)

    monkeypatch.setattr(step_module.Step, "__call__", counted)
    return steps


def test_every_arm_and_seed_is_trained_as_the_study_says(study, data):
    records = go(study, data)
    assert [(r.arm, r.run.seed) for r in records] == [("wide", 0), ("wide", 1), ("narrow", 0), ("narrow", 1)]
    for record in records:
        assert (record.run.budget, record.run.steps, record.run.train_images, record.run.test.n) == ("smoke", 4, 40, 40)
        assert record.run.overrides == study.arms[record.arm].overrides
        assert record.run.recipe.full_length == "20 epochs"
        assert [point.step for point in record.run.history] == [2, 4]
        assert record.run.module is not None
    assert [r.run.test_error for r in go(study, data, arms=["narrow"], seeds=[1])] == [records[3].run.test_error]


def test_shipped_records_fit_the_schema_and_were_evaluated_on_as_many_images_as_the_package_says():
    paths = [path for path in SHIPPED.glob("*/*-seed*.json") if path.parent.name != search.NAME]
    assert len(paths) > 300
    for path in paths:
        run = Record.load(path).run  # which compares it with the schema
        assert run.train.n == min(run.train_images, evaluation.TRAINING_SAMPLE), path


@pytest.mark.parametrize(
    ("ending", "said"), [("json", "another process has it in hand"), ("checkpoint", "another training uses")]
)
def test_what_another_process_trains_is_left_to_it(study, data, tmp_path, ending, said):
    path = tmp_path / "test" / f"smoke-wide-seed1.{ending}"
    with locked(path, wait=False), pytest.raises(Unfinished, match=rf"1 of 4 .*\n.*wide, seed 1: {said}") as error:
        go(study, data, folder=tmp_path)
    assert [(r.arm, r.run.seed) for r in error.value.finished] == [("wide", 0), ("narrow", 0), ("narrow", 1)]
    assert [name for name in names(tmp_path) if name.endswith("json")] == [
        *("smoke-narrow-seed0.json", "smoke-narrow-seed1.json", "smoke-wide-seed0.json")
    ]
    assert len(go(study, data, folder=tmp_path)) == 4


@pytest.mark.parametrize("arm", ["wide", "narrow"])
def test_what_another_process_has_recorded_meanwhile_is_done(study, data, tmp_path, monkeypatch, arm):
    (record,) = go(study, data, arms=[arm], seeds=[0])
    theirs = dataclasses.replace(record, run=dataclasses.replace(record.run, device="another"))
    save = Record.save
    with contextlib.ExitStack() as they:
        they.enter_context(locked(tmp_path / "test" / theirs.file_name, wait=False))

        def saved(record, folder):
            if record.run.seed == 2:
                save(theirs, folder)
                they.close()
            return save(record, folder)

        monkeypatch.setattr(Record, "save", saved)
        records = go(study, data, arms=[arm], seeds=[0, 1, 2], folder=tmp_path)
    assert [record.run.seed for record in records] == [0, 1, 2]
    assert records[0] == theirs


def test_a_training_is_in_hand_until_it_is_recorded(study, data, tmp_path):
    def probe(network, images):
        with pytest.raises(Unfinished, match="another process has it in hand"):  # whose checkpoint is complete
            go(study, data, arms=["narrow"], seeds=[0], folder=tmp_path)
        return 0

    go(dataclasses.replace(study, probe=probe), data, arms=["narrow"], seeds=[0], folder=tmp_path)
    assert names(tmp_path) == ["smoke-narrow-seed0.json"]


def test_a_record_that_another_process_reads_is_waited_for(study, data, tmp_path):
    first = go(study, data, arms=["narrow"], seeds=[0], folder=tmp_path)
    begun = threading.Event()

    def read():
        with locked(tmp_path / "test" / "smoke-narrow-seed0.json", wait=False):
            begun.set()
            time.sleep(0.3)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        begun.wait()
        assert go(study, data, arms=["narrow"], seeds=[0], folder=tmp_path) == first
        assert reading.done()


def test_arms_and_seeds_named_twice_are_trained_once(study, data):
    records = go(study, data, arms=["narrow", "wide", "narrow"], seeds=[7, 3, 7])
    assert [(r.arm, r.run.seed) for r in records] == [("narrow", 7), ("narrow", 3), ("wide", 7), ("wide", 3)]


def test_an_arm_can_ask_for_its_precision(study, data, tmp_path):
    arms = {label: dataclasses.replace(study.arms["wide"], precision=label) for label in ("fp32", "bf16")}
    study = dataclasses.replace(study, arms=arms, ensemble=None)
    records = go(study, data, seeds=[0], folder=tmp_path)
    assert [record.run.precision for record in records] == ["fp32", "bf16"]
    path = tmp_path / "test" / "smoke-bf16-seed0.json"
    path.write_text(path.read_text().replace('"precision": "bf16"', '"precision": "fp32"'))
    with pytest.raises(RecordError, match="precision is 'fp32', not 'bf16'"):
        go(study, data, seeds=[0], folder=tmp_path)


def test_a_probe_sees_the_network_before_and_after_the_training(study, data, tmp_path):
    def probe(network, images):
        assert len(images.train_labels) == 40
        return [parameter.abs().max().item() for parameter in network.parameters()]

    study = dataclasses.replace(study, probe=probe)
    record, *_ = go(study, data, seeds=[1], arms=["wide"], folder=tmp_path)
    torch.manual_seed(1)
    assert record.probe.initial == probe(
        create("alexnet-cifar", width=0.125, dropout=0.0), study.images(data, study.scale("smoke"))
    )
    assert record.probe.trained == probe(record.run.module, study.images(data, study.scale("smoke")))
    assert record.probe.initial != record.probe.trained
    (path,) = (tmp_path / "test").glob("*.json")
    assert Record.load(path).probe == record.probe


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_probe_computes_as_the_training_does(study, data, threads, jobs):
    """cuDNN's flags are those of the process, so a machine without a GPU shows what one would see."""
    flags = ("deterministic", "benchmark", "allow_tf32")
    probe = lambda *_: [getattr(torch.backends.cudnn, flag) for flag in flags]  # noqa: E731
    (record, _) = go(dataclasses.replace(study, probe=probe), data, arms=["narrow"], jobs=jobs)
    assert record.probe.initial == record.probe.trained == [True, False, False]


def test_a_probe_leaves_the_random_numbers_as_they_are(study, data):
    study = dataclasses.replace(study, probe=lambda network, images: torch.rand(3).tolist())
    torch.manual_seed(3)
    expected = torch.get_rng_state()
    go(study, data, seeds=[1], arms=["wide"])
    assert torch.equal(torch.get_rng_state(), expected)


def test_budgets(study, data):
    assert study.scale("full").recipe(study.arms["wide"].recipe).steps(100) == 100
    (record,) = go(study, data, budget="short", seeds=[0], arms=["wide"])
    assert (record.run.steps, record.run.train_images, record.run.test.n) == (5, 100, 60)
    with pytest.raises(StudyError, match="no medium budget; it has smoke, short, full"):
        go(study, data, budget="medium")
    with pytest.raises(UnknownBudget):
        go(study, data, budget="tiny")
    with pytest.raises(StudyError, match="no arm 'broad'; it has wide, narrow"):
        go(study, data, arms=["broad"])


def test_the_subset_is_balanced_and_the_same_for_every_seed(study, data):
    first, second = (study.images(data, study.scale("short")) for _ in range(2))
    assert first.train_labels.bincount().tolist() == [10] * 10
    assert torch.equal(first.train_images, second.train_images)
    assert len(first.test_labels) == 60


def test_nothing_is_written_without_a_folder(study, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    go(study, data, seeds=[0])
    assert list(tmp_path.iterdir()) == []


def test_records_come_back_equal(study, data, tmp_path):
    records = go(study, data, folder=tmp_path)
    paths = sorted((tmp_path / "test").glob("*.json"))
    assert [path.name for path in paths] == [
        "smoke-narrow-seed0.json",
        "smoke-narrow-seed1.json",
        "smoke-wide-seed0.json",
        "smoke-wide-seed1.json",
    ]
    assert load_records(study, "smoke", tmp_path) == records
    assert load_records(study, folder=tmp_path) == records
    assert load_records(study, "short", tmp_path) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content.update(format=2), r"\$\.format: 1 was expected"),
        (lambda content: content.pop("arm"), "'arm' is a required property"),
        (lambda content: content["run"].pop("seed"), "'seed' is a required property"),
        (lambda content: content["run"].update(surprise=1), "'surprise' was unexpected"),
        (lambda content: content["run"].update(model="ResNet"), r"\$\.run\.model: 'ResNet' does not match"),
        (lambda content: content["run"].update(seconds="9"), r"\$\.run\.seconds: '9' is not of type 'number'"),
        (lambda content: content["run"]["test"].update(error=101), r"\$\.run\.test\.error: 101 is greater than"),
        (lambda content: content["run"].update(budget=None), r"\$\.run\.budget: None is not one of"),
        (lambda content: content["run"]["history"].clear(), r"\$\.run\.history: \[\]"),
        (lambda content: content["run"]["history"][0].update(step=0), r"\$\.run\.history\[0\]\.step: 0 is less than"),
        (
            lambda content: content["run"].update(history="no point " * 999),
            r"\$\.run\.history: 'no point .{,190}\[\.\.\.\]\)",
        ),
        (lambda content: content["run"]["recipe"].update(lr=0), r"\$\.run\.recipe\.lr: 0 is less than"),
    ],
)
def test_a_record_that_does_not_fit_the_schema_is_named_and_what_is_wrong_in_it(study, data, tmp_path, spoil, said):
    go(study, data, folder=tmp_path, seeds=[0], arms=["narrow"])
    path = tmp_path / "test" / "smoke-narrow-seed0.json"
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=rf"smoke-narrow-seed0\.json holds no record of a study \(.*{said}"):
        Record.load(path)


def test_a_slash_in_a_label_makes_no_folder(study, data, tmp_path):
    study = dataclasses.replace(study, arms={"3/4 as wide": study.arms["narrow"]}, ensemble=None)
    (record,) = run(study, budget="smoke", seeds=[0], data=data, folder=tmp_path, progress=False)
    (loaded,) = load_records(study, "smoke", tmp_path)
    assert (loaded.arm, loaded.run.seed) == (record.arm, 0)
    assert publish(study, "smoke", tmp_path, destination=tmp_path / "out")[0].name == "smoke-3-4 as wide-seed0.json"


def test_several_jobs_need_a_gpu(study, data, monkeypatch):
    monkeypatch.setattr("cnnlib.settings.device", lambda: torch.device("cpu"))
    with pytest.raises(StudyError, match="2 trainings at a time need a GPU: a cpu is busy with one"):
        go(study, data, jobs=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_side_by_side_is_the_same_as_one_after_the_other(study, data, tmp_path):
    alone = go(study, data)
    together = go(study, data, jobs=4, folder=tmp_path)
    assert [(record.arm, record.run.seed) for record in together] == [(record.arm, record.run.seed) for record in alone]
    for one, other in zip(alone, together, strict=True):
        assert [p.train_loss for p in other.run.history] == [p.train_loss for p in one.run.history]
        assert other.run.test == one.run.test
        assert (one.run.together, other.run.together) == (1, 4)
        assert "4 trainings at a time" in other.run.hardware
    assert go(study, data, jobs=4, folder=tmp_path) == together  # read from their records


@pytest.fixture
def threads(monkeypatch):
    """Several trainings at a time, on the CPU."""
    monkeypatch.setenv("CNNLIB_DEVICE", "cpu")
    monkeypatch.setattr("cnnlib.studies.running.check_jobs", lambda jobs: None)
    for name in ("synchronize", "Stream", "set_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda _: None)


@pytest.mark.parametrize(("jobs", "together"), [(1, 1), (2, 2), (8, 4)])
def test_a_record_says_how_many_trained_at_a_time(study, data, threads, jobs, together):
    assert {record.run.together for record in go(study, data, jobs=jobs)} == {together}


def test_what_is_recorded_does_not_train_with_the_others(study, data, threads, tmp_path):
    def together(**options):
        return [record.run.together for record in go(study, data, folder=tmp_path, **options)]

    assert together(seeds=[0]) == [1, 1]
    assert together(seeds=[0, 1], arms=["narrow"], jobs=8) == [1, 1], "one of the two is recorded"
    assert together(seeds=[0, 1, 2], arms=["narrow", "wide"], jobs=8) == [1, 1, 3, 1, 3, 3]


def test_a_second_ctrl_c_does_not_break_off_the_wait_for_the_threads(study, data, threads, monkeypatch):
    check, ending, stopped = Interrupts.check, [], []

    def pressed_twice(self):
        if not ending:
            ending.append(self)
            for _ in range(2):
                time.sleep(0.2)  # until the main thread waits
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.2)
            stopped.append(STOP.is_set())
        check(self)

    monkeypatch.setattr(Interrupts, "check", pressed_twice)
    with pytest.raises(KeyboardInterrupt):
        go(study, data, seeds=[0], jobs=2)
    assert stopped == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "it is heard again"


def test_ctrl_c_while_the_threads_are_started_stops_those_that_were(study, data, threads, monkeypatch):
    submit, shutdown, stopping = ThreadPoolExecutor.submit, ThreadPoolExecutor.shutdown, []

    def pressed_at_the_second(self, *arguments, **options):
        if self._threads:
            raise KeyboardInterrupt
        return submit(self, *arguments, **options)

    def watched(self, **options):
        stopping.append(STOP.is_set())
        shutdown(self, **options)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", pressed_at_the_second)
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", watched)
    with pytest.raises(KeyboardInterrupt):
        go(study, data, jobs=2)
    assert stopping[0]
    assert not STOP.is_set()


def test_a_second_ctrl_c_stops_no_later_training(study, data, threads, monkeypatch):
    def pressed(*_, **__):
        raise KeyboardInterrupt

    shutdown, stopping = ThreadPoolExecutor.shutdown, []

    def pressed_once(self, **options):
        stopping.append(STOP.is_set())
        if len(stopping) == 1:
            pressed()
        shutdown(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr("cnnlib.studies.queue.as_completed", pressed)
        patch.setattr(ThreadPoolExecutor, "shutdown", pressed_once)
        with pytest.raises(KeyboardInterrupt):
            go(study, data, jobs=2)
    assert stopping == [True, True], "until the threads have stopped"
    assert len(go(study, data, jobs=2)) == 4


def test_the_callers_random_numbers_are_not_taken(study, data, tmp_path):
    """Neither by trainings nor by records and networks that are read."""
    before = torch.get_rng_state()
    for _ in "trained", "read":
        go(study, data, folder=tmp_path)
        assert torch.equal(torch.get_rng_state(), before)


def test_finished_trainings_are_skipped(study, data, tmp_path, monkeypatch):
    first = go(study, data, folder=tmp_path)
    steps = count_steps(monkeypatch)
    again = go(study, data, folder=tmp_path)
    assert again == first
    assert steps == []
    go(study, data, folder=tmp_path, seeds=[0, 1, 2], arms=["narrow"])
    assert len(steps) == 4, "the new seed only"


def test_a_broken_off_study_carries_on(study, data, tmp_path, monkeypatch):
    whole = go(study, data)
    monkeypatch.setattr("cnnlib.studies.running.CHECKPOINT_SECONDS", 0)
    with monkeypatch.context() as patch:
        count_steps(patch, die_at=11)  # the third step of the third training
        with pytest.raises(Killed):
            go(study, data, folder=tmp_path)
    assert "smoke-narrow-seed0.checkpoint" in names(tmp_path)
    steps = count_steps(monkeypatch)
    records = go(study, data, folder=tmp_path)
    assert len(steps) == 2 + 4
    assert [r.run.test for r in records] == [r.run.test for r in whole]
    assert [name for name in names(tmp_path) if "narrow" in name] == [
        "smoke-narrow-seed0.json",
        "smoke-narrow-seed1.json",
    ]


def test_a_record_of_another_test_is_refused(study, data, tmp_path):
    (record,) = go(study, data, folder=tmp_path, seeds=[0], arms=["narrow"])
    few = dataclasses.replace(record.run, test=dataclasses.replace(record.run.test, n=10))
    dataclasses.replace(record, run=few).save(tmp_path)
    for again in (load_records, lambda study, **options: go(study, data, **options)):
        with pytest.raises(RecordError, match="test_images is 10, not 40"):
            again(study, folder=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"study": "degradation"}, r"run needs a study, not 'degradation'; find_study\(name\) returns one"),
        ({"seeds": 0}, "are sequences"),
        ({"arms": "wide"}, "are sequences"),
        ({"seeds": []}, "give at least one seed, or leave seeds out for all that there are"),
        ({"arms": ()}, "give at least one arm, or leave arms out"),
        ({"data": "shapes10"}, r"run needs images, such as cnnlib.load_data\('cifar10'\), not 'shapes10'"),
        ({"seeds": np.int64(3)}, r"even of one: seeds=\[np.int64\(3\)\]"),
        ({"seeds": 1.5}, r"even of one: seeds=\[1.5\]"),
        ({"arms": iter(["wide"])}, r"even of one: arms=list\(<list_iterator"),
    ],
)
def test_arguments_of_another_kind_are_explained(study, data, arguments, message):
    with pytest.raises(StudyError, match=message):
        go(arguments.pop("study", study), arguments.pop("data", data), **arguments)


@pytest.mark.parametrize("function", [load_records, load_ensemble, load_mixtures, compare, with_recorded, overview])
def test_a_name_is_no_study(function):
    rest = ([],) if function in (with_recorded, overview) else ()
    with pytest.raises(StudyError, match=rf"{function.__name__} needs a study, not 'degradation'; find_study"):
        function("degradation", *rest)
    with pytest.raises(StudyError, match="publish needs a study"):
        publish("degradation", "short", "runs")


def test_several_studies_are_a_sequence_of_studies(study):
    with pytest.raises(StudyError, match=r"several, even of one: \[find_study\('test'\)\]"):
        run_studies(study)
    with pytest.raises(StudyError, match="run_studies needs a study, not 'degradation'"):
        run_studies(["degradation"])


@pytest.mark.parametrize("foreign", [{"study": "other"}, {"arm": "narrower"}])
@pytest.mark.parametrize("function", [with_recorded, overview])
def test_records_of_another_study_are_refused(study, data, function, foreign):
    records = [dataclasses.replace(record, **foreign) for record in go(study, data, seeds=[0], arms=["wide"])]
    with pytest.raises(StudyError, match=rf"{function.__name__} needs records of 'test', not of .*'(other|narrower)'"):
        function(study, records)


def test_a_study_that_averages_nothing_has_no_averages(study):
    study = dataclasses.replace(study, ensemble=None, mixed=())
    for load in (load_ensemble, load_mixtures):
        with pytest.raises(StudyError, match="the study 'test' averages no"):
            load(study, "smoke")


def test_arms_to_compare_are_a_sequence_of_some(study, data):
    records = go(study, data, seeds=[0])
    with pytest.raises(StudyError, match=r"sequences, even of one: arms=\['wide'\]"):
        compare(study, records, arms="wide")
    with pytest.raises(StudyError, match="at least one arm"):
        compare(study, records, arms=[])
    assert str(compare(study, iter(records))) == str(compare(study, records))


def test_a_record_that_cannot_be_written_stops_no_other(study, data, tmp_path, monkeypatch):
    def full(record, folder, save=Record.save):
        if (record.arm, record.run.seed) == ("wide", 1):
            raise OSError(28, "No space left on device")
        return save(record, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "save", full)
        with pytest.raises(Unfinished, match=r"wide, seed 1: .*No space left") as error:
            go(study, data, folder=tmp_path)
    assert len(error.value.finished) == 3
    monkeypatch.setattr(step_module.Step, "__call__", None)  # the checkpoint is complete: nothing is trained again
    assert len(go(study, data, folder=tmp_path)) == 4


def test_memory_that_runs_out_among_several_is_explained(study):
    def train(display, together):
        raise OutOfMemory("cuda has not enough memory")

    task = Task(study.name, "wide", 0, None, train).kept_going()
    assert task.train(None, together=8).endswith("8 were trained at a time; fewer need less memory")
    assert task.train(None, together=1).endswith("not enough memory")

    def probe(display, together):
        raise torch.OutOfMemoryError("CUDA out of memory")

    probed = Task(study.name, "wide", 0, None, probe).kept_going()
    assert "out of memory. 8 were trained at a time" in probed.train(None, together=8)


def test_the_home_folder_may_be_named_in_short(study, data, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    study = dataclasses.replace(study, ensemble=None)
    go(study, data, folder="~/runs")
    assert len(load_records(study, "smoke", "~/runs")) == 4
    published = publish(study, "smoke", "~/runs", destination="~/published")
    assert set(published) == {*(tmp_path / "home" / "published" / study.name).iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert not [*tmp_path.glob("**/*.checkpoint")]


@pytest.fixture
def diverging(study):
    """The study with one more arm, whose loss explodes; the first of three."""
    arm = study.arms["wide"]
    hot = dataclasses.replace(arm, recipe=arm.recipe.replace(lr=1e9))
    return dataclasses.replace(study, arms={"hot": hot, **study.arms})


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_training_that_fails_does_not_stop_the_others(diverging, data, tmp_path, monkeypatch, threads, jobs):
    with pytest.raises(Unfinished, match="2 of 6 trainings are not done, and the others are recorded:\n") as error:
        go(diverging, data, folder=tmp_path, jobs=jobs)
    assert re.findall(r"test, hot, seed (\d): alexnet-cifar: the loss is .* lower learning rate", str(error.value)) == [
        "0",
        "1",
    ]
    finished = load_records(diverging, folder=tmp_path)
    assert [(r.arm, r.run.seed) for r in finished] == [(arm, seed) for arm in ("wide", "narrow") for seed in (0, 1)]
    assert error.value.finished == finished
    steps = count_steps(monkeypatch)
    with pytest.raises(StudyError, match="1 of 3 trainings are not done"):
        go(diverging, data, folder=tmp_path, jobs=jobs, seeds=[0])
    assert len(steps) <= 4, "of the one that failed"


def test_a_failure_lets_go_of_its_network(study, data, threads, monkeypatch):
    failed, step = [], step_module.Step.__call__

    def failing(self, *arguments):
        if failed:
            return step(self, *arguments)
        failed.append(weakref.ref(self))
        raise Killed

    monkeypatch.setattr(step_module.Step, "__call__", failing)
    with pytest.raises(Killed) as error:
        go(study, data, jobs=2)
    gc.collect()
    assert failed[0]() is None
    assert error.traceback[-1].name == "failing", "where it failed is still told"


def test_a_queue_holds_the_networks_that_are_averaged(study, data, tmp_path):
    def held(**options):
        queued = run_studies([study, mixed], budget="smoke", data={"cifar10": data}, progress=False, **options)
        return {(name, r.arm) for name, records in queued.items() for r in records if r.run.module is not None}

    mixed = dataclasses.replace(study, name="mixed", ensemble=None, mixed=("narrow",))
    for _ in "trained", "recorded":
        assert held(folder=tmp_path) == {("test", "wide"), ("mixed", "narrow")}
    assert held() == {(name, arm) for name in ("test", "mixed") for arm in ("wide", "narrow")}


@pytest.mark.parametrize("jobs", [1, 2])
def test_without_a_folder_the_first_failure_ends_the_study(diverging, data, monkeypatch, threads, jobs):
    steps = count_steps(monkeypatch)
    with pytest.raises(Diverged):
        go(diverging, data, jobs=jobs)
    assert len(steps) <= 4 * jobs, "what came after it could not be kept"


def test_nothing_is_trained_beside_a_record_that_does_not_fit(study, data, tmp_path, monkeypatch):
    go(study, data, folder=tmp_path, seeds=[0], arms=["narrow"])
    arms = {**study.arms, "narrow": study.arms["wide"]}
    steps = count_steps(monkeypatch)
    with pytest.raises(RecordError, match="overrides"):
        go(dataclasses.replace(study, arms=arms), data, folder=tmp_path)
    assert steps == []


def test_the_ensembles_networks_are_kept_until_they_are_averaged(study, data, tmp_path, monkeypatch):
    first = go(study, data, folder=tmp_path)
    steps = count_steps(monkeypatch)
    again = go(study, data, folder=tmp_path)
    images = study.images(data, study.scale("smoke"))
    assert run_ensemble(study, again, images) == run_ensemble(study, first, images)
    assert steps == []
    assert run_ensemble(study, again[:1], images) is None
    assert run_ensemble(study, load_records(study, "smoke", tmp_path), images) is None


def test_a_record_still_says_where_it_was_trained(study, data, tmp_path):
    there = [
        dataclasses.replace(record, run=dataclasses.replace(record.run, device="another", together=8))
        for record in go(study, data, folder=tmp_path)
    ]
    written = [record.save(tmp_path).read_bytes() for record in there]
    again = go(study, data, folder=tmp_path)
    assert again == there
    assert [record.run.module is not None for record in again] == [True, True, False, False]
    assert [(tmp_path / "test" / record.file_name).read_bytes() for record in there] == written


def test_networks_trained_on_a_gpu_are_averaged_on_a_cpu(study, data, tmp_path, monkeypatch):
    first = go(study, data, folder=tmp_path, arms=["wide"])
    for path in (tmp_path / "test").glob("*.checkpoint"):
        identity, state = checkpoint.read(path)
        there = {"device": "cuda", "precision": "bf16", "compiled": True, "threads": 16}
        checkpoint.write(path, identity | there, state | {"torch": "2.11.0"})
    steps = count_steps(monkeypatch)
    again = go(study, data, folder=tmp_path, arms=["wide"])
    assert steps == []
    images = study.images(data, study.scale("smoke"))
    assert run_ensemble(study, again, images) == run_ensemble(study, first, images)
    assert torch.get_num_threads() == 1, "the number of threads there has no meaning here"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda identity, state: (identity | {"seed": 7}, state), "seed is 7 there and 0 here"),
        (lambda identity, state: (identity, state | {"train": None}), "not the checkpoint of a finished training"),
    ],
)
def test_other_networks_are_not_averaged(study, data, tmp_path, damage, said):
    go(study, data, folder=tmp_path, arms=["wide"])
    path = tmp_path / "test" / "smoke-wide-seed0.checkpoint"
    checkpoint.write(path, *damage(*checkpoint.read(path)))
    advice = "To train it again, delete smoke-wide-seed0.json besides; to go without it, the checkpoint alone"
    with pytest.raises(Unfinished, match=f"wide, seed 0: the record is there, .*{said}.* {advice}") as error:
        go(study, data, folder=tmp_path, arms=["wide"])
    assert len(error.value.finished) == 1


def test_a_kill_between_record_and_checkpoint_changes_nothing(study, data, tmp_path, monkeypatch):
    unlink = pathlib.Path.unlink

    def killed(path, **more):
        if path.suffix == ".checkpoint":
            raise Killed(path)
        unlink(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "unlink", killed)
        with pytest.raises(Killed):
            go(study, data, folder=tmp_path, seeds=[0], arms=["narrow"])
    assert names(tmp_path) == ["smoke-narrow-seed0.checkpoint", "smoke-narrow-seed0.json"]
    (record,) = load_records(study, folder=tmp_path)
    there = dataclasses.replace(record, run=dataclasses.replace(record.run, device="another"))
    there.save(tmp_path)
    assert go(study, data, folder=tmp_path, seeds=[0], arms=["narrow"]) == [there]
    assert load_records(study, folder=tmp_path) == [there]
    assert names(tmp_path) == ["smoke-narrow-seed0.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subset": 30}, "train_images is 40, not 30"),
        ({"data": "cifar100"}, "data is 'cifar10', not 'cifar100'"),
        ({"name": "other"}, "study is 'test', not 'other'"),
        ({"arms": {"model": "resnet20"}}, "model is 'alexnet-cifar', not 'resnet20'"),
        ({"arms": {"overrides": {"width": 0.25}}}, "overrides"),
        ({"arms": {"lr": 0.5}}, r"lr is 0.01, not 0.5"),
    ],
)
def test_a_record_of_the_study_as_it_was_is_refused(study, data, tmp_path, change, message):
    go(study, data, folder=tmp_path, seeds=[0], arms=["narrow"])
    if arm := change.pop("arms", None):
        old = study.arms["narrow"]
        recipe = old.recipe.replace(lr=arm.pop("lr", old.recipe.lr), name="test")
        change["arms"] = {**study.arms, "narrow": dataclasses.replace(old, recipe=recipe, **arm)}
    changed = dataclasses.replace(study, **change)
    (tmp_path / "test").rename(tmp_path / changed.name)
    with pytest.raises(RecordError, match=message) as error:
        load_records(changed, folder=tmp_path)
    assert "smoke-narrow-seed0.json" in str(error.value)
    if changed.data == study.data:
        with pytest.raises(RecordError, match=message):
            go(changed, data, folder=tmp_path, seeds=[0], arms=["narrow"])


def test_a_record_of_another_length_is_refused(study, data, tmp_path):
    (record,) = go(study, data, seeds=[0], arms=["narrow"])
    for steps in (3, 5):
        dataclasses.replace(record, run=dataclasses.replace(record.run, steps=steps)).save(tmp_path)
        with pytest.raises(RecordError, match=f"steps is {steps}, not 4"):
            load_records(study, folder=tmp_path)


def test_a_record_of_another_version_is_not_to_be_deleted(study, data, tmp_path):
    (record,) = go(study, data, seeds=[0], arms=["narrow"])
    path = record.save(tmp_path)
    for change, advice in (({"format": 2}, "read it with the version of cnnlib that wrote it"), ({"arm": 3}, "delete")):
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(RecordError, match=rf"holds no record of a study \(.*\); {advice}"):
            load_records(study, folder=tmp_path)
        record.save(tmp_path)


def test_a_record_of_fewer_images_is_refused(study, data, tmp_path):
    scale = dataclasses.replace(study.scale("smoke"), images=None)
    whole = dataclasses.replace(study, budgets={"smoke": scale}, subset=None)
    go(whole, data.subset(50), folder=tmp_path, seeds=[0], arms=["narrow"])
    with pytest.raises(RecordError, match="train_images is 50, not 120"):
        go(whole, data, folder=tmp_path, seeds=[0], arms=["narrow"])


@pytest.mark.parametrize("name", ["smoke-narrow-seed3.json", "short-narrow-seed0.json", "smoke-wide-seed0.json"])
def test_a_copy_under_another_name_is_refused(study, data, tmp_path, name):
    go(study, data, folder=tmp_path, seeds=[0], arms=["narrow"])
    path = (tmp_path / "test" / "smoke-narrow-seed0.json").rename(tmp_path / "test" / name)
    message = f"{path} holds the record that belongs in smoke-narrow-seed0.json"
    with pytest.raises(RecordError, match=re.escape(message)):
        load_records(study, folder=tmp_path)
    budget, arm, seed = path.stem.split("-")
    with pytest.raises(RecordError, match=re.escape(message)):
        go(study, data, folder=tmp_path, budget=budget, arms=[arm], seeds=[int(seed.removeprefix("seed"))])


def test_a_recipe_may_be_reworded(study, data, tmp_path, monkeypatch):
    records = go(study, data, folder=tmp_path, arms=["wide"])
    arm = study.arms["wide"]
    reworded = dataclasses.replace(arm, recipe=arm.recipe.replace(name="test", source="other words", deviations="none"))
    study = dataclasses.replace(study, arms={**study.arms, "wide": reworded})
    assert load_records(study, folder=tmp_path) == records
    steps = count_steps(monkeypatch)
    again = go(study, data, folder=tmp_path, arms=["wide"])  # from the checkpoints, which the ensemble keeps
    assert steps == []
    more = go(study, data, folder=tmp_path, arms=["wide"], seeds=[2])
    assert run_ensemble(study, [*again, *more], study.images(data, study.scale("smoke"))).seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("what", "name", "left"), [("arm", "narrow", {"arms": ("wide",)}), ("budget", "smoke", {"budgets": ("short",)})]
)
def test_a_record_of_what_is_gone(study, data, tmp_path, what, name, left):
    records = go(study, data, folder=tmp_path, seeds=[0], arms=["narrow"])
    without = {field: {key: getattr(study, field)[key] for key in kept} for field, kept in left.items()}
    study = dataclasses.replace(study, **without)
    with pytest.raises(RecordError, match=rf"smoke-narrow-seed0\.json is of the {what} '{name}', unknown to 'test'"):
        load_records(study, folder=tmp_path)
    with pytest.raises(StudyError, match=f"no {name} budget" if what == "budget" else f"no arm '{name}'"):
        compare(study, records)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[1]",
        100_000 * "[",
        '{"seed": 1' + 5000 * "0" + "}",
        '{"format": 1, "study": "test", "arm": "wide", "run": {}}',
    ],
)
def test_a_damaged_record_is_named(study, tmp_path, content):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "smoke-wide-seed0.json").write_text(content)
    with pytest.raises(RecordError, match=r"smoke-wide-seed0.json holds no record"):
        load_records(study, folder=tmp_path)


def test_a_folder_in_the_place_of_a_record_is_named(study, tmp_path):
    (tmp_path / "test" / "smoke-wide-seed0.json").mkdir(parents=True)
    with pytest.raises(RecordError, match=r"smoke-wide-seed0.json holds no record .*Is a directory"):
        load_records(study, folder=tmp_path)


def test_an_unknown_budget_is_not_taken_for_one_without_records(study):
    with pytest.raises(UnknownBudget):
        load_records(study, "hugo")


def test_stand_ins_never_mix_with_records(study, data, stand_in, tmp_path):
    live = go(study, stand_in, folder=tmp_path, seeds=[0])
    assert names(tmp_path) == [
        "smoke-narrow-seed0-shapes-10.json",
        "smoke-wide-seed0-shapes-10.checkpoint",
        "smoke-wide-seed0-shapes-10.json",
    ]
    with pytest.raises(RecordError, match=r"shapes-10\.json .*stood in for CIFAR-10: .*move it to another folder"):
        load_records(study, folder=tmp_path)
    with pytest.raises(RecordError, match="stood in for CIFAR-10"):
        publish(study, "smoke", tmp_path, destination=tmp_path / "shipped")
    measured = go(study, data, folder=tmp_path, seeds=[0])
    assert {r.run.data for r in measured} == {"CIFAR-10"}
    with pytest.raises(StudyError, match="different data sets cannot be compared: CIFAR-10, Shapes-10"):
        compare(study, [live[0], measured[1]])


def test_another_data_set_passed_by_hand_is_a_stand_in_too(study, shapes):
    (record,) = go(study, shapes, seeds=[0], arms=["narrow"])
    assert record.run.stands_in_for == "CIFAR-10"


def test_publishing_copies_records_and_ensemble(study, data, tmp_path):
    records = go(study, data, folder=tmp_path / "runs")
    images = study.images(data, study.scale("smoke"))
    averaged = run_ensemble(study, records, images)
    averaged.save(tmp_path / "runs" / "test" / "smoke-wide-ensemble.json")
    paths = publish(study, "smoke", tmp_path / "runs", destination=tmp_path / "shipped")
    assert names(tmp_path / "shipped") == sorted(path.name for path in paths)
    assert len(paths) == 5
    assert load_records(study, "smoke", tmp_path / "shipped") == records
    assert load_ensemble(study, "smoke", tmp_path / "shipped") == averaged


def test_without_a_budget_that_in_force_is_published(study, data, tmp_path, monkeypatch):
    study = dataclasses.replace(study, ensemble=None)
    for budget in ("smoke", "short"):
        go(study, data, budget=budget, seeds=[0], arms=["narrow"], folder=tmp_path / "runs")
    monkeypatch.setenv("CNNLIB_BUDGET", "smoke")
    assert len(publish(study, None, tmp_path / "runs", destination=tmp_path / "shipped")) == 1
    assert names(tmp_path / "shipped") == ["smoke-narrow-seed0.json"]


def test_averages_of_another_budget_are_refused(study, data, tmp_path):
    study = dataclasses.replace(study, mixed=("wide",))
    records, images = go(study, data), study.images(data, study.scale("smoke"))
    folder = tmp_path / "test"
    for load, average, name in (
        (load_ensemble, run_ensemble, "wide-ensemble.json"),
        (load_mixtures, run_mixtures, "mixtures.json"),
    ):
        average(study, records, images).save(folder / f"short-{name}")
        with pytest.raises(RecordError, match=rf"short-{name} holds the record that belongs in smoke-{name}"):
            load(study, "short", tmp_path)


def test_where_no_record_lies_nothing_is_published(study, tmp_path):
    with pytest.raises(RecordError, match=r"there are no records of the budget smoke in .*typo"):
        publish(study, "smoke", tmp_path / "typo", destination=tmp_path / "shipped")


@pytest.mark.parametrize(
    ("changed", "named"), [({"alone": [101, 101]}, "wide, seed 0; wide, seed 1"), ({"seeds": [0, 7]}, "wide, seed 7")]
)
@pytest.mark.parametrize("name", ["smoke-wide-ensemble.json", "smoke-mixtures.json"])
def test_averages_of_other_networks_are_not_published(study, data, tmp_path, name, changed, named):
    mixed = "mixtures" in name
    study = dataclasses.replace(study, **({"ensemble": None, "mixed": ("wide",)} if mixed else {}))
    average = run_mixtures if mixed else run_ensemble
    images = study.images(data, study.scale("smoke"))
    path = average(study, go(study, data, folder=tmp_path), images).save(tmp_path / "test" / name)
    assert len(publish(study, "smoke", tmp_path, destination=tmp_path / "shipped")) == 5
    content = json.loads(path.read_text())
    (content["mixtures"][0] if mixed else content).update(changed)
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=rf"{name} averages networks without a record of theirs \({named}\)"):
        publish(study, "smoke", tmp_path, destination=tmp_path / "shipped")


@pytest.mark.parametrize("wrong", [1, 2])
def test_rounding_may_change_the_class_of_one_image(study, data, tmp_path, wrong):
    images = study.images(data, study.scale("smoke"))
    averaged = run_ensemble(study, go(study, data, folder=tmp_path), images)
    more = averaged.alone[0] + 100 * wrong / len(images.test_labels)
    dataclasses.replace(averaged, alone=(more, averaged.alone[1])).save(tmp_path / "test" / "smoke-wide-ensemble.json")
    with contextlib.nullcontext() if wrong == 1 else pytest.raises(RecordError, match=r"\(wide, seed 0\)"):
        assert len(publish(study, "smoke", tmp_path, destination=tmp_path / "shipped")) == 5


@pytest.mark.parametrize(
    "change",
    [
        {"alone": [1.0]},
        {"seeds": [0, 1, 2]},
        {"alone": 3},
        {"more": 1},
        {"alone": ["1", "2"]},
        {"alone": [], "seeds": []},
        {"error": "low"},
        {"error": float("nan")},
        {"images": None},
        {"overrides": 3},
    ],
)
def test_a_damaged_ensemble_is_named(study, data, tmp_path, change):
    averaged = run_ensemble(study, go(study, data), study.images(data, study.scale("smoke")))
    path = averaged.save(tmp_path / "test" / "smoke-wide-ensemble.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RecordError, match=r"smoke-wide-ensemble.json holds no ensemble \(.*delete it"):
        load_ensemble(study, "smoke", tmp_path)


@pytest.mark.parametrize(
    ("goes_with_them", "missing"),
    [
        ({}, "smoke-wide-ensemble.json"),
        ({"ensemble": None, "mixed": ("wide",)}, "smoke-mixtures.json"),
        ({"ensemble": None, "equal_time": "wide"}, "smoke-lengths.json"),
    ],
)
def test_all_is_published_or_nothing(study, data, tmp_path, goes_with_them, missing):
    for record in go(study, data, arms=["narrow"]):
        record.save(tmp_path / "runs")
        record.save(tmp_path / "shipped")
    before = {path: path.stat().st_ino for path in (tmp_path / "shipped" / "test").iterdir()}
    if "lengths" in missing:
        (tmp_path / "runs" / "test" / missing).write_text("{}")
    with pytest.raises(RecordError, match=missing):
        publish(
            dataclasses.replace(study, **goes_with_them), "smoke", tmp_path / "runs", destination=tmp_path / "shipped"
        )
    assert {path: path.stat().st_ino for path in (tmp_path / "shipped" / "test").iterdir()} == before


def test_studies_by_name(study, monkeypatch):
    monkeypatch.setattr("cnnlib.studies.study.STUDIES", {})
    assert register(study) is study
    assert find_study("test") is study
    with pytest.raises(StudyError, match="no study 'tset'; there are test"):
        find_study("tset")


def test_the_curve_has_the_points_of_the_budget_and_the_evaluations_of_the_study(study, data):
    scale = dataclasses.replace(study.scale("smoke"), log_every=3)
    study = dataclasses.replace(study, budgets={"smoke": scale}, evaluate_every=2)
    (record,) = go(study, data, seeds=[0], arms=["narrow"])
    points = [(point.step, point.test_error is not None) for point in record.run.history]
    assert points == [(2, False), (3, False), (4, True)]


@pytest.mark.parametrize("more", [-0.2, -0.05, 0.05, 0.2])
def test_a_difference_of_either_sign_tells_networks_apart(study, data, more):
    (record,) = go(study, data, seeds=[0], arms=["wide"])
    tested = dataclasses.replace(record.run, test=dataclasses.replace(record.run.test, n=10_000))
    assert running._differ(tested.test_error + more, tested) == (abs(more) > 0.1)


def test_records_come_in_the_order_of_the_seeds(study, data, tmp_path):
    go(study, data, folder=tmp_path, seeds=[2, 10], arms=["narrow"])
    assert [record.run.seed for record in load_records(study, folder=tmp_path)] == [2, 10]
