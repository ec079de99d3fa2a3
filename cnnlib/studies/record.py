"""Records: one JSON file for every finished training of a study."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnlib import settings
from cnnlib.data import ImageSet
from cnnlib.files import read_json, user_path, write_json
from cnnlib.spelling import plain
from cnnlib.studies.errors import RecordError, StudyError
from cnnlib.studies.schemas import RECORD, validate, what_to_do
from cnnlib.studies.study import Study, require_study
from cnnlib.training import Run
from cnnlib.training.recipe import WORDS

FORMAT = 1
SHIPPED = Path(__file__).with_name("records")
"""The records that come with the package, a folder a study."""


@dataclass(frozen=True)
class Probed:
    """What a study's probe measured, in values of JSON: on the network before the training, and after it."""

    initial: Any
    trained: Any


@dataclass(frozen=True)
class Record:
    """A finished training of a study: which arm, and what came of it. The budget is the run's."""

    study: str
    arm: str
    run: Run
    probe: Probed | None = None

    @property
    def file_name(self) -> str:
        """Name of the record's file, from budget, arm and seed, and the data set if it is a stand-in."""
        return file_name(self.run.budget, self.arm, self.run.seed, self.run.data if self.run.stands_in_for else None)

    def save(self, folder: str | Path) -> Path:
        """Write the record into the study's folder within ``folder``, and return where it lies."""
        path = user_path(folder) / self.study / self.file_name
        content = {"format": FORMAT, "study": self.study, "arm": self.arm, "run": self.run.as_dict()}
        if self.probe:
            content["probe"] = asdict(self.probe)
        return write_json(path, content)

    @classmethod
    def load(cls, path: str | Path) -> Record:
        """Read a record.

        Raises:
            RecordError: if the file holds none.
        """
        try:
            content = read_json(path)
            validate(content, RECORD)
            probe = Probed(**content["probe"]) if "probe" in content else None
            return cls(study=content["study"], arm=content["arm"], run=Run.from_dict(content["run"]), probe=probe)
        except (ValueError, OSError, RecordError) as error:
            raise RecordError(f"{path} holds no record of a study ({error}); {what_to_do(error)}") from error


def file_name(budget: str, arm: str, seed: int, stand_in: str | None = None) -> str:
    """Return the name of a record's file. A slash in the label becomes a dash, so that all lie in one folder."""
    suffix = f"-{stand_in.lower()}" if stand_in else ""
    return f"{budget}-{arm.replace('/', '-')}-seed{seed}{suffix}.json"


def check(record: Record, study: Study, path: Path, images: ImageSet | None = None) -> None:
    """Compare a record with its name and with the study as it is defined now, but for what is only said of the recipe.

    ``images`` are those to train and test on; without them their numbers are compared where the study says them.

    Raises:
        RecordError: naming what differs.
    """
    refuse_misnamed(path, record.file_name)
    for what, name, known in (("arm", record.arm, study.arms), ("budget", record.run.budget, study.budgets)):
        if name not in known:
            raise RecordError(f"the record {path} is of the {what} {name!r}, unknown to {study.name!r}; delete it")
    arm, scale, run = study.arm(record.arm), study.scale(record.run.budget), record.run
    expected = {
        "study": study.name,
        "model": arm.model,
        "overrides": dict(arm.overrides),
        "data": study.data,
        "train_images": len(images.train_labels) if images else study.train_images(scale) or run.train_images,
        "test_images": len(images.test_labels) if images else scale.images or run.test.n,
        "precision": arm.precision or run.precision,
        **scale.recipe(arm.recipe).as_dict(),
    }
    found = {
        "study": record.study,
        "model": run.model,
        "overrides": run.overrides,
        "data": plain(run.stands_in_for or run.data),
        "train_images": run.train_images,
        "test_images": run.test.n,
        "precision": run.precision,
        **run.recipe.as_dict(),
    }
    words = WORDS
    if study.equal_time:  # each machine has its own lengths, but for this arm's
        words = (*WORDS, "iterations", "epochs")
    if study.equal_time in (None, record.arm):
        expected["steps"], found["steps"] = scale.recipe(arm.recipe).steps(run.train_images), run.steps
    refuse_different(path, f"the study {study.name!r}", found, expected, words)


def refuse_different(
    path: Path, what: str, found: Mapping[str, Any], expected: Mapping[str, Any], words: Container[str]
) -> None:
    """Compare what a record says with what is expected, but for what is only said: ``words``.

    Raises:
        RecordError: naming what differs, for ``what``, the study or the search, as it is now.
    """
    if different := differences(found, expected, words):
        raise RecordError(f"the record {path} is not of {what} as it is now: {different}. Delete it and run again")


def differences(found: Mapping[str, Any], expected: Mapping[str, Any], words: Container[str]) -> str:
    """Say where what was found differs from what is expected, but for ``words``: nothing if it does not."""
    return "; ".join(
        f"{key} is {found[key]!r}, not {expected[key]!r}"
        for key in expected
        if key not in words and found[key] != expected[key]
    )


def load_records(study: Study, budget: str | None = None, folder: str | Path | None = None) -> list[Record]:
    """Return the records of a study, in the order of its arms and seeds.

    Args:
        study: the study.
        budget: of this budget only; None for all.
        folder: where to look; default: the records that come with the package.

    Raises:
        StudyError: if it is no study, but the name of one.
        RecordError: if one is damaged, belongs to a stand-in data set, or does not fit the study as it is now.
        UnknownBudget: if there is no such budget.
    """
    require_study("load_records", study)
    budget = budget and settings.budget(budget)
    records = []
    for path in sorted((user_path(folder or SHIPPED) / study.name).glob(f"{budget or '*'}-*-seed*.json")):
        record = Record.load(path)
        refuse_stand_in(record.run, path)
        check(record, study, path)
        records.append(record)
    return in_order(study, records)


def in_order(study: Study, records: Iterable[Record]) -> list[Record]:
    """Return records in the order of the study's arms, budgets and seeds."""
    arms = list(study.arms)
    return sorted(records, key=lambda r: (arms.index(r.arm), settings.BUDGETS.index(r.run.budget), r.run.seed))


def require_records(function: str, records: object, study: Study | None = None) -> list[Record]:
    """Return what a function was given for records as a list.

    Raises:
        StudyError: if it is no sequence of records, such as one by itself, or one is not of the ``study``.
    """
    if isinstance(records, Record) or not isinstance(records, Iterable):
        raise StudyError(f"{function} needs a list of records, even of one, not a {type(records).__name__} alone")
    given = [*records]
    if wrong := [one for one in given if not isinstance(one, Record)]:
        raise StudyError(f"{function} needs records, as cnnlib.studies.run returns them, not {wrong[0]!r}")
    if lone := [one for one in given if one.run.budget not in settings.BUDGETS]:
        told = f"that of {lone[0].arm}, seed {lone[0].run.seed}, says {lone[0].run.budget!r}"
        raise StudyError(f"{function} needs records of a budget, and {told}; cnnlib.studies.run notes it")
    if foreign := [one for one in given if study and (one.study != study.name or one.arm not in study.arms)]:
        one = foreign[0]
        raise StudyError(f"{function} needs records of {study.name!r}, not of {one.study!r}, arm {one.arm!r}")
    return given


def refuse_misnamed(path: Path, name: str) -> None:
    """Keep a copy under another name from passing for a training that never was.

    Raises:
        RecordError: if the file's name is not ``name``, that of its content.
    """
    if path.name != name:
        raise RecordError(f"{path} holds the record that belongs in {name}; rename it, or delete it and run again")


def refuse_none(records: Sized, folder: Path, budget: str | None) -> None:
    """Keep a folder that was mistyped from passing for one whose records were all published, or shown.

    Raises:
        RecordError: if there are no records.
    """
    if not records:
        raise RecordError(f"there are no records{f' of the budget {budget}' * bool(budget)} in {folder}")


def refuse_stand_in(run: Run, path: Path) -> None:
    """Keep generated data away from measured results.

    Raises:
        RecordError: if the recorded run was measured on a data set that stood in for another.
    """
    if run.stands_in_for:
        raise RecordError(
            f"{path} was measured on {run.data}, which stood in for {run.stands_in_for}: only the command that trains "
            "shows such results. Delete it, or move it to another folder, and the other records can be read"
        )
