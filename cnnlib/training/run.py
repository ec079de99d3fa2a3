"""What a finished training was and what came of it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from cnnlib.files import read_json, reason, write_json
from cnnlib.table import Column, Table
from cnnlib.training.errors import RecipeError, RunError
from cnnlib.training.evaluation import Evaluation
from cnnlib.training.recipe import Recipe
from cnnlib.training.words import data_in_words, in_brackets, in_words, percent


def title(model: str, overrides: dict[str, Any], data: str, stands_in_for: str | None) -> str:
    """Return model, overrides and data set in words; a stand-in in capitals."""
    return f"{model}{in_brackets(overrides)} on {data_in_words(data, stands_in_for)}"


def conditions(
    device: str,
    device_type: str,
    threads: int,
    precision: str,
    compiled: bool,
    processes: int = 1,
    sync_bn: bool = False,
    together: int = 1,
) -> str:
    """Return device, processes, threads of each, number format, compilation and company in words."""
    several = f"{processes} processes, " if processes > 1 else ""
    count = f"{threads} thread{'' if threads == 1 else 's'}, " if device_type == "cpu" else ""
    normalised = ", synchronised batch normalisation" if sync_bn else ""
    company = f", {together} trainings at a time" if together > 1 else ""
    return f"{device} ({several}{count}{precision}, {'compiled' if compiled else 'eager'}{normalised}{company})"


def _finite(loss: float | None) -> float | None:
    """Return a loss as JSON can hold it: None for one that is infinite or not a number.

    In the first steps of a deep network its evaluation overflows, since the running statistics are not there yet.
    """
    return loss if loss is None or math.isfinite(loss) else None


def _evaluation(values: dict[str, Any]) -> Evaluation:
    """Return the evaluation that a file holds; a loss that it could not hold is not a number."""
    return Evaluation(**values | {"loss": math.nan if values["loss"] is None else values["loss"]})


@dataclass(frozen=True)
class Point:
    """One point of the learning curve.

    Attributes:
        step: steps done so far.
        epoch: passes over the training set so far; not whole between epochs.
        lr: learning rate of the last step.
        train_loss: mean over the steps since the point before, in training mode on augmented images.
        train_error: likewise, in percent.
        test_loss: over all test images, if they were looked at here.
        test_error: likewise, in percent.
        seconds: since the start, pauses between sessions left out.
    """

    step: int
    epoch: float
    lr: float
    train_loss: float
    train_error: float
    test_loss: float | None
    test_error: float | None
    seconds: float


@dataclass(frozen=True, repr=False)
class Run:
    """A finished training: what was trained how and on what, its learning curve and its errors at the end.

    Errors are those after the last step, never those of the epoch that happened to be best on the test set.

    Attributes:
        model: registered name, or the class name of a module that was passed.
        overrides: what differs from the registered model.
        parameters: their number.
        recipe: how it was trained.
        steps: how many.
        seed: of weights, order, augmentation and dropout.
        data: name of the data set.
        stands_in_for: the data set in whose place it was used, if any.
        train_images: size of the training set.
        history: the learning curve.
        train: loss and error at the end on training images, in evaluation mode and without augmentation; of a set of
            more than 10,000 a fixed random 10,000 are used.
        test: loss and error at the end on all test images.
        seconds: of the whole training with its evaluations.
        images_per_second: of the training steps alone, the first steps of a session left out.
        device: processor or GPU in words.
        device_type: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        threads: of PyTorch on the processor.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        compiled: whether the network was compiled.
        processes: how many trained together, each with a processor or GPU of its own.
        sync_bn: whether they normalised with the statistics of the whole batch.
        together: how many trainings shared the device, each of them slower for it.
        versions: of Python, torch and cnnlib.
        budget: smoke, short, medium or full, if a study set one.
        module: the trained network; not saved with the run.
    """

    model: str
    overrides: dict[str, Any]
    parameters: int
    recipe: Recipe
    steps: int
    seed: int
    data: str
    stands_in_for: str | None
    train_images: int
    history: tuple[Point, ...]
    train: Evaluation
    test: Evaluation
    seconds: float
    images_per_second: float
    device: str
    device_type: str
    threads: int
    precision: str
    compiled: bool
    versions: dict[str, str]
    budget: str | None = None
    processes: int = 1
    sync_bn: bool = False
    together: int = 1
    module: nn.Module | None = field(default=None, compare=False)

    @property
    def train_error(self) -> float:
        """Error on training images after the last step, percent."""
        return self.train.error

    @property
    def test_error(self) -> float:
        """Error on all test images after the last step, percent."""
        return self.test.error

    @property
    def hardware(self) -> str:
        """Device, threads, number format and compilation in words."""
        return conditions(
            self.device,
            self.device_type,
            self.threads,
            self.precision,
            self.compiled,
            self.processes,
            self.sync_bn,
            self.together,
        )

    @property
    def title(self) -> str:
        """Model, overrides and data set in words; a stand-in in capitals."""
        return title(self.model, self.overrides, self.data, self.stands_in_for)

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the module, for JSON. A loss that overflowed is None."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "module"}
        return values | {
            "recipe": self.recipe.as_dict(),
            "history": [dataclasses.asdict(point) | {"test_loss": _finite(point.test_loss)} for point in self.history],
            "train": dataclasses.asdict(self.train) | {"loss": _finite(self.train.loss)},
            "test": dataclasses.asdict(self.test) | {"loss": _finite(self.test.loss)},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Run:
        """Return the run that :meth:`as_dict` described.

        Raises:
            RunError: if a value is missing or unknown, or the recipe is senseless.
        """
        try:
            return cls(
                **values
                | {
                    "recipe": Recipe(**values["recipe"]),
                    "history": tuple(Point(**point) for point in values["history"]),
                    "train": _evaluation(values["train"]),
                    "test": _evaluation(values["test"]),
                }
            )
        except (KeyError, TypeError, RecipeError) as error:
            raise RunError(f"this is not a run: {error}") from error

    def save(self, path: str | Path) -> Path:
        """Write the run as JSON and return where it lies. Folders are made as needed."""
        return write_json(path, self.as_dict())

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Read a saved run.

        Raises:
            RunError: if the file holds none, or cannot be read.
        """
        try:
            return cls.from_dict(read_json(path))
        except IsADirectoryError as error:
            raise RunError(f"{path} is a folder, and no run of cnnlib; give the path of the record itself") from error
        except OSError as error:
            raise RunError(f"cannot read {path}: {reason(error)}") from error
        except (ValueError, AttributeError) as error:  # the first from JSON and from_dict
            raise RunError(f"{path} holds no run of cnnlib ({error})") from error

    def table(self) -> Table:
        """Return errors, time and conditions as a table."""
        sample = "" if self.train.n == self.train_images else f", measured on {self.train.n:,} of them"
        return Table(
            caption=self.title,
            columns=(Column("", numeric=False), Column("result", numeric=False)),
            rows=(
                ("test error", f"{percent(self.test.error)} ({self.test.n:,} images)"),
                ("training error", f"{percent(self.train.error)} ({self.train_images:,} images{sample})"),
                ("test loss", f"{self.test.loss:.4f}"),
                ("training loss", f"{self.train.loss:.4f}"),
                ("recipe", f"{self.recipe}, seed {self.seed}"),
                ("parameters", f"{self.parameters:,}"),
                ("time", f"{in_words(self.seconds)}, {self.images_per_second:,.0f} images/s"),
                ("hardware", self.hardware),
            ),
        )

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()
