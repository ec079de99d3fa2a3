"""The one base class of the errors that cnnlib raises on purpose, and what it says of the errors of others."""


class CnnlibError(Exception):
    """Something the user can mend. The message says what was wrong and what to do."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message without its full stop, or the kind of error if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
