"""What can go wrong with a study that the user can mend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnnlib.errors import CnnlibError


class StudyError(CnnlibError, ValueError):
    """A study, arm or budget that does not exist, or runs that cannot be compared."""


class Unfinished(StudyError):
    """Some trainings are not done; it says which and why. ``finished`` are the records of the others."""

    def __init__(self, failures: Sequence[str], finished: Sequence[Any]) -> None:
        count = len(failures) + len(finished)
        summary = f"{len(failures)} of {count} trainings are not done, and the others are recorded"
        super().__init__("\n".join([f"{summary}:", *failures]))
        self.finished = [*finished]


class RecordError(CnnlibError, ValueError):
    """A record that is damaged, of another experiment than its name says, or of a stand-in data set."""
