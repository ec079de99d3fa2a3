"""The one base class of the errors that cnnlib raises on purpose, and what it says of the errors of others."""

import math
from numbers import Integral


class CnnlibError(Exception):
    """Something the user can mend. The message says what was wrong and what to do."""


class DoesNotFit(CnnlibError, ValueError):
    """A window is larger than its padded input, or a network cannot take an input of this size."""


def require_whole(error: type[Exception], least: float, **numbers: object) -> None:
    """Raise ``error``, naming the first of these that is no integer, of Python or NumPy, or less than ``least``."""
    for name, number in numbers.items():
        if not isinstance(number, Integral) or isinstance(number, bool):
            raise error(f"{name} must be a whole number, not {number!r}")
        if number < least:
            raise error(f"{name} must be at least {least}, not {number}")


def require_integers(error: type[Exception], **numbers: object) -> None:
    """Raise ``error``, naming the first of these that is no integer; what else it must be, the caller says."""
    require_whole(error, -math.inf, **numbers)


def kind_of(value: object) -> str:
    """Return what was given in the place of a tensor of another kind, such as "torch.uint8 (3, 8, 8)" or "a list"."""
    from torch import Tensor  # not needed where no error is

    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def first_line(error: Exception) -> str:
    """Return the first line of an error's message without its full stop, or the kind of error if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
