"""The one base class of the errors that cnnlib raises on purpose."""


class CnnlibError(Exception):
    """Something the user can mend. The message says what was wrong and what to do."""
