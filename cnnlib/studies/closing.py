"""What the book's own trainings say to the statements of the lecture's summary: one pair of arms for each question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnlib.settings import BUDGETS
from cnnlib.studies.record import load_records
from cnnlib.studies.statistics import LEGEND, Summary, differ, summarise
from cnnlib.studies.study import find_study
from cnnlib.table import Column, Table


@dataclass(frozen=True)
class Question:
    """Two arms of a study that answer a question.

    Attributes:
        asks: the question, in a few words.
        study: its name.
        arms: with what is asked about, and without it.
        measure: the field of a run that is compared, ``test_error`` or ``train_error``.
    """

    asks: str
    study: str
    arms: tuple[str, str]
    measure: str = "test_error"


@dataclass(frozen=True)
class Answer:
    """What the records say: in which budget, after how many steps, and the errors of the two arms in percent."""

    question: Question
    budget: str
    steps: tuple[int, ...]
    errors: tuple[Summary, Summary]

    @property
    def shown(self) -> bool:
        """Whether the 95 % intervals lie apart."""
        return differ(*self.errors)


QUESTIONS = (
    Question("ReLU instead of tanh", "relu-against-tanh", ("relu", "tanh")),
    Question("dropout, on few images", "dropout-and-augmentation", ("dropout", "neither")),
    Question("augmentation, on few images", "dropout-and-augmentation", ("augmentation", "neither")),
    Question("three 3x3 instead of one 7x7", "kernel-stacks", ("three 3x3", "one 7x7")),
    Question("1x1 in Inception, equal multiply-adds", "inception-modules", ("bottleneck", "naive")),
    Question("56 plain layers instead of 20", "degradation", ("plain56", "plain20"), "train_error"),
    Question("shortcuts, at 56 layers", "degradation", ("resnet56", "plain56"), "train_error"),
    Question("branches from zero, 56 layers", "identity-start", ("resnet56, F = 0", "resnet56"), "train_error"),
    Question(
        *("pre-activation, 44 layers", "activation-orders", ("full pre-activation, basic", "original, basic")),
    ),
    Question(
        "16 wide layers instead of 40",
        "width-against-depth",
        ("16 layers, 1.8125 x as wide", "40 layers, 1 x as wide"),
    ),
    Question("8 paths instead of 1", "cardinality", ("8 x 4d", "1 x 24d")),
    Question("squeeze and excitation, 20 layers", "squeeze-and-excitation", ("se-resnet20", "resnet20")),
    Question("stochastic depth, on few images", "stochastic-depth", ("stochastic depth", "all blocks")),
    Question("concatenation instead of addition", "vgg-resnet-densenet", ("DenseNet-BC-52-12", "ResNet-20")),
    Question("depthwise convolutions", "efficient-nets", ("MobileNet V2, half as wide", "ResNet-20")),
)
"""In the order of the chapters."""


def answers(question: Question) -> list[Answer]:
    """Return what the records that come with the package say, one answer for each budget that has both arms."""
    records = load_records(find_study(question.study))
    found = []
    for budget in BUDGETS:
        runs = [[one.run for one in records if (one.arm, one.run.budget) == (arm, budget)] for arm in question.arms]
        if all(runs):
            steps = tuple(sorted({run.steps for arm in runs for run in arm}))
            errors = tuple(summarise([getattr(run, question.measure) for run in arm]) for arm in runs)
            found.append(Answer(question, budget, steps, errors))
    return found


def answers_table(questions: Sequence[Question] = QUESTIONS) -> Table:
    """Return the answers as a table. Questions without records are named below it."""
    found = {question: answers(question) for question in questions}
    without = [question.asks for question in questions if not found[question]]
    notes = [
        f"{LEGEND} A single run has none.",
        "All on CIFAR-10. Rows differ in steps, and many in recipe: compare within a row only.",
        "These are the records alone. A chapter that trains a seed itself has that one in the place of the record.",
    ]
    if without:
        notes.append(f"Not measured yet: {'; '.join(without)}.")
    return Table(
        caption="What this book's own trainings say",
        columns=(
            *(Column("with against without", numeric=False), Column("budget", numeric=False), Column("steps")),
            *(Column("error", numeric=False), Column("with", "%"), Column("without", "%")),
            *(Column("difference", numeric=False), Column("study", numeric=False)),
        ),
        rows=tuple(
            (
                one.question.asks,
                one.budget,
                " or ".join(f"{count:,}" for count in one.steps),
                "training" if one.question.measure == "train_error" else "test",
                *(f"{error} ({error.n})" for error in one.errors),
                _verdict(one),
                one.question.study,
            )
            for question in questions
            for one in found[question]
        ),
        notes=notes,
    )


def _verdict(one: Answer) -> str:
    if not one.shown:
        return "not shown"
    return "lower" if one.errors[0].mean < one.errors[1].mean else "higher"
