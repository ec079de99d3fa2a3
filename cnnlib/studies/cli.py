"""``python -m cnnlib study``, ``compare``, ``search`` and ``speed``."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from cnnlib.files import check_writable, user_path

if TYPE_CHECKING:
    from cnnlib.data import ImageSet
    from cnnlib.studies import Ensemble, Mixtures, Record, Study
    from cnnlib.studies.search import SearchRun

EXAMPLES = """examples:
  python -m cnnlib study                                    the studies there are
  python -m cnnlib study degradation --budget short --seeds 0 1 2
  python -m cnnlib study --all --budget medium --jobs 8     every study, on a GPU
Of several studies each arm trains once before any trains a second time.
The table shows the trainings of this command; that of all in the folder: python -m cnnlib compare NAME --out DIR
The same command again skips what is finished and continues what was broken off.
With Shapes-10 in the place of CIFAR give a folder of its own (--out): `compare` refuses one with such records.
"""
SEARCH_EXAMPLES = """examples:
  python -m cnnlib search --budget short                    every way to search, every seed
  python -m cnnlib search --arms enas random-shared --seeds 0
The same command again skips what is finished.
"""


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Add ``study``, ``compare``, ``search`` and ``speed``."""
    study = subparsers.add_parser(
        "study",
        help="run the book's experiments and record them",
        description="Train every arm of one or more studies once a seed, record each training, and compare them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    study.add_argument("names", metavar="NAME", nargs="*", help="of a study; without any they are listed")
    study.add_argument("--all", action="store_true", help="run every study that has the budget")
    _add_common(study, "of one study, as its table and `compare` call them; default: all")
    study.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at a time, on one GPU (1)")
    study.set_defaults(run=run_study)

    compare = subparsers.add_parser(
        "compare",
        help="show the table of what is recorded of an experiment",
        description="Show the table of a study's records: those that come with the package, or those in a folder.",
    )
    compare.add_argument("name", metavar="NAME", help="of a study; `python -m cnnlib study` lists them")
    compare.add_argument("--budget", metavar="B", help="smoke, short, medium or full; default: all that have records")
    compare.add_argument("--arms", nargs="+", metavar="ARM", help="default: all")
    compare.add_argument(
        "--out", type=user_path, metavar="DIR", help="folder of the records, as that of `study`; default: the package's"
    )
    compare.set_defaults(run=run_compare)

    search = subparsers.add_parser(
        "search",
        help="search for a cell, train it and record both",
        description="Search for a cell in every way once a seed, train the cells found, record and compare them.",
        epilog=SEARCH_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common(search, "of none, random-own, nas, random-shared and enas; default: all")
    search.set_defaults(run=run_search)

    speed = subparsers.add_parser(
        "speed",
        help="time layers and networks on this device and record it",
        description="Time dense and separable convolutions of several widths and batch sizes, and training steps of "
        "small networks: about a minute on a GPU, five on two cores. The networks train on CIFAR-10, which is "
        "downloaded if it is not there; --layers-only needs no data.",
    )
    speed.add_argument(
        "--out",
        type=user_path,
        default=Path("runs/speed.json"),
        metavar="FILE",
        help="the record; one that is there is replaced (runs/speed.json)",
    )
    speed.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1; default: CNNLIB_DEVICE, else a GPU if there is one"
    )
    speed.add_argument("--precision", metavar="P", help="fp32, bf16 or fp16; default: the fastest of the hardware")
    speed.add_argument("--rounds", type=int, default=5, metavar="N", help="how often each is timed (5)")
    speed.add_argument("--layers-only", action="store_true", help="leave the networks out")
    speed.add_argument("--threads", type=int, metavar="N", help="of PyTorch on the CPU")
    speed.set_defaults(run=run_speed)


def _add_common(parser: argparse.ArgumentParser, arms: str) -> None:
    parser.add_argument(
        "--budget",
        metavar="B",
        help="smoke, short, medium or full; default: CNNLIB_BUDGET, else medium with a GPU and short without",
    )
    parser.add_argument("--seeds", type=int, nargs="+", metavar="K", help="default: those of the budget")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help=arms)
    parser.add_argument(
        "--out",
        type=user_path,
        default=Path("runs/studies"),
        metavar="DIR",
        help="folder of the records (runs/studies)",
    )
    parser.add_argument(
        "--publish", action="store_true", help="copy the finished records to those that come with the package"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of PyTorch on the CPU")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run_study(options: argparse.Namespace) -> None:
    """Run studies, print their tables, and publish their records if asked to."""
    from cnnlib import settings
    from cnnlib.studies import STUDIES, StudyError, Unfinished, find_study, run, run_studies
    from cnnlib.studies.queue import check_jobs
    from cnnlib.studies.record import in_order
    from cnnlib.training.cli import check_folder, load_data, use_threads, warnings_in_a_line
    from cnnlib.training.hardware import checked_seed

    if options.names and options.all:
        raise StudyError(f"--all runs every study; leave out {' '.join(options.names)}, or --all")
    if not options.names and not options.all:
        if options.budget or options.seeds is not None or options.arms or options.publish or options.jobs != 1:
            raise StudyError("name a study, or give --all; `python -m cnnlib study` alone lists them")
        for study in STUDIES.values():
            print(f"{study.name:26} {study.question}")
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise StudyError("a study trains in one process; torchrun is for `train`")
    budget = settings.budget(options.budget)
    chosen = [find_study(name) for name in dict.fromkeys(options.names)]
    if options.all:
        chosen = [study for study in STUDIES.values() if budget in study.budgets]
    if options.arms and len(chosen) > 1:
        raise StudyError(f"--arms names arms of one study, and there are {len(chosen)}")
    for study in chosen:  # what `run` would refuse as well, but after the data are there
        study.scale(budget)
        for label in options.arms or ():
            study.arm(label)
    for seed in options.seeds or ():
        checked_seed(seed)
    check_jobs(options.jobs)
    use_threads(options.threads)
    check_folder(options.out)
    data = {name: load_data(name, progress=not options.quiet) for name in {study.data: None for study in chosen}}
    _refuse_stand_ins(options, data.values())
    settled = {"budget": budget, "seeds": options.seeds, "folder": options.out, "jobs": options.jobs}
    settled["progress"] = not options.quiet
    errors: list[Exception] = []
    try:
        with warnings_in_a_line():
            if len(chosen) == 1:
                (study,) = chosen
                records = {study.name: run(study, arms=options.arms, data=data[study.data], **settled)}
            else:
                records = run_studies(chosen, data=data, **settled)
    except Unfinished as error:
        errors.append(error)
        records = {
            study.name: in_order(study, (record for record in error.finished if record.study == study.name))
            for study in chosen
        }
    for study in chosen:
        with _collected(errors):
            if records[study.name]:
                _report(study, budget, records[study.name], data[study.data], options)
    _say(errors)


@contextlib.contextmanager
def _collected(errors: list[Exception]) -> Iterator[None]:
    """Within this context an error of studies or records waits for the end, so that it holds back no later table."""
    from cnnlib.studies import RecordError, StudyError

    try:
        yield
    except (RecordError, StudyError) as error:
        errors.append(error)


def _say(errors: Sequence[Exception]) -> None:
    """Raise a StudyError that says all that went wrong, if anything did."""
    from cnnlib.studies import StudyError

    if errors:
        raise StudyError("\n".join(map(str, errors)))


def _refuse_stand_ins(options: argparse.Namespace, sets: Iterable[ImageSet]) -> None:
    """Keep a queue from being trained that could not be published in the end.

    Raises:
        StudyError: if it is to be published, and one of its data sets stands in for another.
    """
    from cnnlib.studies import StudyError

    if options.publish and any(images.stands_in_for for images in sets):
        raise StudyError(
            "what is measured on a stand-in is not published: bring the data set (CNNLIB_DATA), or leave out --publish"
        )


def _report(study: Study, budget: str, records: Sequence[Record], data: ImageSet, options: argparse.Namespace) -> None:
    """Print the table of a study, average what is to be averaged, and publish the records if asked to."""
    from cnnlib.studies import compare, publish, run_ensemble, run_mixtures
    from cnnlib.studies.ensembles import ensemble_name
    from cnnlib.studies.mixtures import mixtures_name

    print(compare(study, records, arms=options.arms))
    scale, folder = study.scale(budget), options.out / study.name
    images = study.images(data, scale)
    stand_in = records[0].run.data if records[0].run.stands_in_for else None
    if averaged := run_ensemble(study, records, images):
        print(f"\n{averaged}")
        _keep(averaged, set(scale.seeds), folder / ensemble_name(study.ensemble, budget, stand_in))
    if without := [r for r in records if r.arm in study.averaged and r.run.module is None]:
        named = "; ".join(f"{record.arm}, seed {record.run.seed}" for record in without)
        print(f"\nnot averaged, since their checkpoints are gone: {named}; delete their records to train them again")
    if mixtures := run_mixtures(study, records, images):
        print(f"\n{mixtures}")
        _keep(mixtures, set(product(study.mixed, scale.seeds)), folder / mixtures_name(budget, stand_in))
    print(f"\nrecords in {folder}")
    if options.publish:
        for path in publish(study, budget, options.out):
            print(f"published {path}")


def _keep(averages: Ensemble | Mixtures, networks: set, path: Path) -> None:
    """Save averages if none of the budget's ``networks`` is missing, nor any that the file averages; else say so."""
    wanted = set(type(averages).load(path).networks) if path.exists() else networks
    if missing := wanted - averages.networks.keys():
        print(f"not saved: of the {len(wanted)} networks to be averaged in {path} this call left out {len(missing)}")
    else:
        averages.save(path)


def run_compare(options: argparse.Namespace) -> None:
    """Print the table of what is recorded of a study."""
    from cnnlib.studies import compare, find_study, load_records
    from cnnlib.studies.record import SHIPPED, refuse_none

    study = find_study(options.name)
    records = load_records(study, options.budget, options.out)
    refuse_none(records, (options.out or SHIPPED) / study.name, options.budget)
    print(compare(study, records, arms=options.arms))


def run_search(options: argparse.Namespace) -> None:
    """Search, train what was found, print the table, and publish the records if asked to."""
    from cnnlib.studies import StudyError, Unfinished, search
    from cnnlib.training.cli import check_folder, load_data, use_threads

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise StudyError("a search runs in one process; torchrun is for `train`")
    use_threads(options.threads)
    # What `run` would refuse as well, but after the data are there.
    budget, _, _ = search.settled(options.budget, options.seeds, options.arms)
    check_folder(options.out)
    data = load_data("cifar10", progress=not options.quiet)
    _refuse_stand_ins(options, [data])
    errors: list[Exception] = []
    try:
        runs = search.run(
            budget=budget,
            seeds=options.seeds,
            arms=options.arms,
            data=data,
            folder=options.out,
            progress=not options.quiet,
        )
    except Unfinished as error:
        errors.append(error)
        runs = error.finished
    with _collected(errors):
        if runs:
            _report_searches(runs, budget, options)
    _say(errors)


def _report_searches(runs: Sequence[SearchRun], budget: str, options: argparse.Namespace) -> None:
    """Print the table of searches, and publish the records if asked to."""
    from cnnlib.studies import search

    print(search.table(runs))
    print(f"\nrecords in {options.out / search.NAME}")
    if options.publish:
        for path in search.publish(budget, options.out):
            print(f"published {path}")


def run_speed(options: argparse.Namespace) -> None:
    """Measure the device, print the tables and save the record."""
    from cnnlib.studies.speed import BATCHES, PASSES, measure_speed
    from cnnlib.training.cli import check_folder, load_data, use_hardware
    from cnnlib.training.errors import check_at_least

    check_at_least(1, rounds=options.rounds)
    use_hardware(options)
    check_folder(options.out.parent)
    check_writable(options.out)
    data = None if options.layers_only else load_data("cifar10", progress=True)
    speed = measure_speed(data, device=options.device, precision=options.precision, rounds=options.rounds)
    for batch_size in BATCHES:
        for work in PASSES:
            print(f"{speed.table(batch_size, work)}\n")
    if speed.nets:
        print(f"{speed.nets}\n")
    print(f"record in {speed.save(options.out)}")
