"""What can go wrong in a training that the user can mend."""

from cnnlib.errors import CnnlibError


class RecipeError(CnnlibError, ValueError):
    """A recipe that makes no sense, or that does not suit the data."""


class Diverged(CnnlibError, RuntimeError):
    """The loss became infinite, not a number, or absurdly large."""


class OutOfMemory(CnnlibError, MemoryError):
    """The device cannot hold a training step of this batch size."""


class CheckpointError(CnnlibError, RuntimeError):
    """A checkpoint that cannot be read or written."""


class CheckpointMismatch(CheckpointError):
    """A checkpoint of another training than the one asked for."""


class RunError(CnnlibError, ValueError):
    """A file that should hold a run, and does not."""


class BenchError(CnnlibError, RuntimeError):
    """One of the loops that are compared failed."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. The message says where the training stopped and how to continue it."""
