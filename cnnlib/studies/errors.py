"""What can go wrong with a study that the user can mend."""

from __future__ import annotations

from collections.abc import Sequence

from cnnlib.errors import CnnlibError


class StudyError(CnnlibError, ValueError):
    """A study, arm or budget that does not exist, or runs that cannot be compared."""


def failed(failures: Sequence[str], count: int) -> StudyError:
    """Return the error that says which of ``count`` trainings are not done, and why: a line each in ``failures``."""
    summary = f"{len(failures)} of {count} trainings are not done, and the others are recorded"
    return StudyError("\n".join([f"{summary}:", *failures]))


class RecordError(CnnlibError, ValueError):
    """A record that is damaged, of another experiment than its name says, or of a stand-in data set."""
