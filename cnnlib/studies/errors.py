"""What can go wrong with a study that the user can mend."""

from cnnlib.errors import CnnlibError


class StudyError(CnnlibError, ValueError):
    """A study, arm or budget that does not exist, or runs that cannot be compared."""


class RecordError(CnnlibError, ValueError):
    """A record that is damaged, of another experiment than its name says, or of a stand-in data set."""
