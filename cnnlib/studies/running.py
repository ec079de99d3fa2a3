"""Running a study: finished trainings are skipped, a broken one continues where it was."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cnnlib import settings
from cnnlib.data import ImageSet, load
from cnnlib.files import user_path, write_json
from cnnlib.measure.dry_run import own_random_numbers
from cnnlib.studies import equal_time
from cnnlib.studies.ensembles import Ensemble, ensemble, ensemble_name
from cnnlib.studies.errors import RecordError, StudyError
from cnnlib.studies.mixtures import Mixtures, mix, mixtures_name
from cnnlib.studies.queue import Task, check_jobs, in_hand, work_off
from cnnlib.studies.record import SHIPPED, Probed, Record, check, file_name, load_records, refuse_misnamed, refuse_none
from cnnlib.studies.study import Arm, Study, require_sequences, require_study
from cnnlib.training import Progress, Run, fit, hardware
from cnnlib.training.engine import finished_network
from cnnlib.training.errors import CheckpointError
from cnnlib.training.network import build

CHECKPOINT_SECONDS = 30.0
ROUNDING = 0.1
"""Test errors of one network, in points, differ by no more, or by one image: rounding changes a class now and then."""


def run(
    study: Study,
    *,
    budget: str | None = None,
    seeds: Sequence[int] | None = None,
    arms: Sequence[str] | None = None,
    data: ImageSet | None = None,
    folder: str | Path | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> list[Record]:
    """Train every arm of a study once a seed.

    With a ``folder``, each finished training is recorded there at once, and the same call after a break carries on:
    trainings that are recorded are skipped, the one that was broken off continues from its checkpoint, and one that
    fails does not stop the others. Without, every training is done anew, nothing is written, and the first error is
    raised as it is.

    Args:
        study: the study.
        budget: smoke, short, medium or full; default the budget in force (:func:`cnnlib.budget`).
        seeds: each counts once; default: those of the budget.
        arms: labels, likewise; default all.
        data: default: the study's data set, or its stand-in.
        folder: of records and checkpoints.
        jobs: trainings at a time, on a GPU only: a small network leaves most of it idle. The numbers are those of one
            after the other; each takes longer, all together less time.
        progress: False shows none.

    Returns:
        The records, arm by arm. Those trained now hold their networks as ``record.run.module``, and so do those of
        arms that are averaged, from their checkpoints.

    Raises:
        StudyError: if there is no such arm or budget, or no GPU for several jobs, or an argument is of another kind, or
            ``seeds`` or ``arms`` are none.
        Unfinished: with a folder, when all others are done, if trainings failed, or another process has them in hand.
            It names them, says why, and holds the records of the others.
        RecordError: if a record in the folder does not fit the study as it is now; nothing is trained then.
        ArgumentError: if a seed is negative, or ``jobs`` not positive.
    """
    require_study("run", study)
    require_sequences(seeds, arms)
    if not isinstance(data, ImageSet | None):
        raise StudyError(f"run needs images, such as cnnlib.load_data('cifar10'), not {data!r}")
    budget = settings.budget(budget)
    check_jobs(jobs)
    tasks = _planned(study, budget, seeds, arms, data or load(study.data), folder)
    if folder:
        tasks = [task.kept_going() for task in tasks]
    return work_off(tasks, jobs, progress)


def run_studies(
    studies: Sequence[Study],
    *,
    budget: str | None = None,
    seeds: Sequence[int] | None = None,
    data: Mapping[str, ImageSet] | None = None,
    folder: str | Path | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> dict[str, list[Record]]:
    """Run several studies as one queue: one training of every arm of all studies, then a second, and so on.

    So whenever it is broken off, all studies have got as far. Arguments and errors are those of :func:`run`; ``data``
    holds the data sets by name, and what it lacks is loaded. Return the records by the name of the study. With a
    folder only those of arms that are averaged hold their networks: a long queue has many.
    """
    if isinstance(studies, Study):
        raise StudyError(f"run_studies needs several, even of one: [find_study({studies.name!r})]")
    for study in studies:
        require_study("run_studies", study)
    require_sequences(seeds, None)
    budget = settings.budget(budget)
    check_jobs(jobs)
    sets = dict(data or {})
    for study in studies:
        if study.data not in sets:
            sets[study.data] = load(study.data)
    sets = {name: images.to(settings.device()) for name, images in sets.items()}  # one copy for all
    planned = {study.name: _planned(study, budget, seeds, None, sets[study.data], folder) for study in studies}
    if folder:
        averaged = {study.name: study.averaged for study in studies}
        for name, tasks in planned.items():
            light = [task if task.label in averaged[name] else _light(task) for task in tasks]
            planned[name] = [task.kept_going() for task in light]
    queue = sorted((task for tasks in planned.values() for task in tasks), key=lambda task: task.seed)
    finished = dict(zip(queue, work_off(queue, jobs, progress), strict=True))
    return {name: [finished[task] for task in tasks] for name, tasks in planned.items()}


def _planned(
    study: Study,
    budget: str,
    seeds: Sequence[int] | None,
    arms: Sequence[str] | None,
    data: ImageSet,
    folder: str | Path | None,
) -> list[Task]:
    """Return the trainings of a study, arm by arm."""
    scale = study.scale(budget)
    labels = dict.fromkeys(study.arms if arms is None else arms)
    for label in labels:
        study.arm(label)
    data = _for(study, data)
    images = study.images(data, scale)
    folder = user_path(folder) if folder else None
    lengths = {}
    if study.equal_time:
        kept = folder / study.name / equal_time.file_name(budget, _stand_in(data)) if folder else None
        lengths = equal_time.lengths(study, scale, images, kept)
    train = functools.partial(_record, study, budget, images.to(settings.device()), lengths)
    tasks = []
    for label in labels:
        for seed in dict.fromkeys(map(hardware.checked_seed, scale.seeds if seeds is None else seeds)):
            path = folder / study.name / file_name(budget, label, seed, _stand_in(data)) if folder else None
            _found(study, path, images)  # so that one that does not fit is refused now, not after hours of training
            tasks.append(Task(study.name, label, seed, path, functools.partial(train, label, seed, path)))
    return tasks


def _found(study: Study, path: Path | None, images: ImageSet) -> Record | None:
    """Return the record at ``path``, which fits the study and its images, or None if there is none."""
    if path is None or not path.exists():
        return None
    record = Record.load(path)
    check(record, study, path, images)
    return record


def _light(task: Task) -> Task:
    """Return the task in a form that drops the network as soon as it is recorded."""
    return replace(task, train=functools.partial(_without_network, task))


def _without_network(task: Task, display: Progress, together: int = 1) -> Record:
    record = task.train(display, together=together)
    return replace(record, run=replace(record.run, module=None))


def _record(
    study: Study,
    budget: str,
    images: ImageSet,
    lengths: Mapping[str, int],
    label: str,
    seed: int,
    path: Path | None,
    display: Progress,
    together: int = 1,
) -> Record:
    """Return the record of one training: the one at ``path``, or that of a training now."""
    arm, scale = study.arm(label), study.scale(budget)
    averaged = label in study.averaged  # so that its network is wanted once more, when all are there
    checkpoint = path.with_suffix(".checkpoint") if path else None
    what = ((arm.model, dict(arm.overrides)), images, equal_time.recipe(scale, arm, lengths.get(label)))
    with in_hand(path):
        if record := _found(study, path, images):
            if averaged and checkpoint.exists():
                with _unreadable_explained(path):
                    network = finished_network(*what, checkpoint, seed=seed)
                return replace(record, run=replace(record.run, module=network))
        else:
            finished = fit(
                *what,
                seed=seed,
                precision=arm.precision,
                checkpoint=checkpoint,
                checkpoint_every=CHECKPOINT_SECONDS,
                log_every=scale.log_every or study.log_every,
                evaluate_every=study.evaluate_every,
                budget=budget,
                progress=display,
            )
            finished = replace(finished, together=together)
            record = Record(study.name, label, finished, _probed(study, arm, finished, images))
            if path:
                record.save(path.parents[1])
        if checkpoint and not averaged:
            checkpoint.unlink(missing_ok=True)
        return record


@contextlib.contextmanager
def _unreadable_explained(path: Path) -> Iterator[None]:
    """Say what to do when the network of a recorded training cannot be had."""
    try:
        yield
    except CheckpointError as error:
        raise StudyError(
            f"the record is there, but its network cannot be averaged: {error}. To train it again, delete {path.name} "
            "besides; to go without it, the checkpoint alone"
        ) from error


def _probed(study: Study, arm: Arm, run: Run, images: ImageSet) -> Probed | None:
    """Measure the trained network, and its twin with the weights that it began with.

    With cuDNN's settings of the training, so that it does not depend on how many train at a time.
    """
    if study.probe is None:
        return None
    device = next(run.module.parameters()).device
    with hardware.SHARED, own_random_numbers(device), hardware.exact_convolutions():
        *_, untrained = build((arm.model, arm.overrides), images, run.seed, device)
        return Probed(initial=study.probe(untrained, images), trained=study.probe(run.module, images))


def _for(study: Study, data: ImageSet) -> ImageSet:
    """Return the data, marked as a stand-in if it is not the study's."""
    known = study.data_name in (data.name, data.stands_in_for)
    return data if known else replace(data, stands_in_for=study.data_name)


def run_ensemble(study: Study, records: Sequence[Record], data: ImageSet) -> Ensemble | None:
    """Average the networks of the study's ensemble arm, or return None if fewer than two records hold theirs."""
    runs = [record.run for record in records if record.arm == study.ensemble and record.run.module is not None]
    return ensemble(runs, data) if len(runs) > 1 else None


def run_mixtures(study: Study, records: Sequence[Record], data: ImageSet) -> Mixtures | None:
    """Average the networks of the study's mixed arms, or return None if fewer than two records hold theirs."""
    ours = [record for record in records if record.arm in study.mixed and record.run.module is not None]
    return mix(study.name, ours, data) if len(ours) > 1 else None


def load_mixtures(study: Study, budget: str | None = None, folder: str | Path | None = None) -> Mixtures:
    """Return the recorded mixtures of a study; ``folder`` as for :func:`load_records`.

    Raises:
        RecordError: if there are none.
        StudyError: if the study averages no kinds of networks.
    """
    require_study("load_mixtures", study)
    if not study.mixed:
        raise StudyError(f"the study {study.name!r} averages no kinds of networks")
    path = user_path(folder or SHIPPED) / study.name / mixtures_name(settings.budget(budget))
    found = Mixtures.load(path)
    refuse_misnamed(path, mixtures_name(found.budget, found.data if found.stands_in_for else None))
    return found


def _stand_in(data: ImageSet) -> str | None:
    return data.name if data.stands_in_for else None


def load_ensemble(study: Study, budget: str | None = None, folder: str | Path | None = None) -> Ensemble:
    """Return the recorded ensemble of a study; ``folder`` as for :func:`load_records`.

    Raises:
        RecordError: if there is none.
        StudyError: if the study averages no networks.
    """
    require_study("load_ensemble", study)
    if not study.ensemble:
        raise StudyError(f"the study {study.name!r} averages no networks")
    path = user_path(folder or SHIPPED) / study.name / ensemble_name(study.ensemble, settings.budget(budget))
    found = Ensemble.load(path)
    stand_in = found.data if found.stands_in_for else None
    refuse_misnamed(path, ensemble_name(study.ensemble, found.budget, stand_in))
    return found


def publish(study: Study, budget: str, folder: str | Path, *, destination: str | Path | None = None) -> list[Path]:
    """Copy the records of a study and what goes with them to those that come with the package. Return their paths.

    Raises:
        RecordError: if there are none, if one is damaged, was measured on a stand-in, or does not fit the study as it
            is now, or if an ensemble or mixtures are missing, or of other networks. Nothing is copied then. Lengths
            may be missing.
    """
    require_study("publish", study)
    budget = settings.budget(budget)
    source = user_path(folder) / study.name
    records = load_records(study, budget, folder)
    refuse_none(records, source, budget)
    averaged = load_ensemble(study, budget, folder) if study.ensemble else None
    mixtures = load_mixtures(study, budget, folder) if study.mixed else None
    if averaged:
        alone = {(study.ensemble, seed): error for seed, error in averaged.networks.items()}
        _require_same_networks(records, alone, source / ensemble_name(study.ensemble, budget))
    if mixtures:
        _require_same_networks(records, mixtures.networks, source / mixtures_name(budget))
    lengths = source / equal_time.file_name(budget)
    timed = equal_time.load(study, lengths) if study.equal_time and lengths.exists() else None
    # All of it is there and in order: only now is something replaced.
    target = user_path(destination or SHIPPED) / study.name
    written = [record.save(target.parent) for record in records]
    if averaged:
        written.append(averaged.save(target / ensemble_name(study.ensemble, budget)))
    if timed:
        written.append(write_json(target / lengths.name, timed))
    if mixtures:
        written.append(mixtures.save(target / mixtures_name(budget)))
    return written


def _require_same_networks(records: Sequence[Record], alone: Mapping[tuple[str, int], float], path: Path) -> None:
    """Compare the test errors of the networks that the file at ``path`` averages with those of the records.

    Raises:
        RecordError: naming the networks that have no record, or one of another network.
    """
    runs = {(record.arm, record.run.seed): record.run for record in records}
    others = [network for network in alone if network not in runs or _differ(alone[network], runs[network])]
    if others:
        named = "; ".join(f"{arm}, seed {seed}" for arm, seed in others)
        raise RecordError(f"{path} averages networks without a record of theirs ({named}); delete it and run the study")


def _differ(test_error: float, run: Run) -> bool:
    """Say whether a test error is that of another network than this run's."""
    one_image = 100 / run.test.n
    return abs(test_error - run.test_error) > max(ROUNDING, 1.01 * one_image)
