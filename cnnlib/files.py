"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import filelock


def user_path(text: str | Path) -> Path:
    """Return a path in which ``~`` means the home folder, as shells do not read it in ``--out=~/runs``."""
    return Path(os.path.expanduser(text))  # Path's own raises where there is no such user


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of ``path`` at the end of the context, unless that fails. Folders are made.

    ``path`` holds the old content or the new at every moment, even if power fails. Several writers take turns.

    Raises:
        OSError: naming a file, if it cannot be written.
    """
    path = Path(path)
    partial = _beside(path, ".partial")
    _make_room(path)
    with locked(partial, wait=True):
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError as error:
            error.filename = error.filename or str(path)  # a full disk does not say which file it is about
            raise
        finally:
            partial.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """See that :func:`replacing` can write ``path``, and leave what is there alone. Folders are made.

    Raises:
        OSError: if it cannot.
    """
    partial = _beside(Path(path), ".partial")
    _make_room(Path(path))
    with locked(partial, wait=True):
        partial.open("wb").close()
        partial.unlink()


def _make_room(path: Path) -> None:
    """Make the folder of a file, in whose place there must be no folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # "File exists" would not say what is wrong with it
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from error
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _beside(path: Path, ending: str) -> Path:
    """Return the path of a file beside another, named after it.

    Raises:
        IsADirectoryError: if the path has no name, as ``.`` and ``/`` have none.
    """
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return path.with_name(f"{path.name}{ending}")


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Within this context nobody else, in this process or another, is in one of the same path.

    The lock lies on a file beside it. It is the system's, and ends with the process, however that ends. There is none
    where nothing can be written, and so nothing is to protect, nor where the file system knows no locks.

    Raises:
        filelock.Timeout: if somebody else is, and this one shall not ``wait``.
        IsADirectoryError: if the path has no name.
    """
    beside = _beside(path, ".lock")
    lock = filelock.FileLock(beside)
    try:
        lock.acquire(blocking=wait)
    except filelock.Timeout:
        raise
    except (OSError, NotImplementedError):  # the latter from filelock, where the file system knows no locks
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes it in the release
            beside.unlink()  # while it is held, so that it is nobody else's
        lock.release()


def write_json(path: str | Path, content: Any) -> Path:
    """Write values as JSON, see :func:`replacing`, and return where they lie."""
    with replacing(path) as file:
        file.write(f"{json.dumps(content, indent=1)}\n".encode())
    return Path(path)


def read_json(path: str | Path) -> Any:
    """Return the values in a file of JSON.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it holds none.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("brackets within brackets, more than Python can follow") from error


def _finite(digits: str) -> float:
    """Return a number; JSON knows neither NaN nor infinity, though Python reads and writes both."""
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits} is no finite number")
    return number


def reason(error: Exception) -> str:
    """Return what the system says of a failed write. PyTorch raises an error of its own in handling the system's."""
    system = error if isinstance(error, OSError) else error.__context__
    return getattr(system, "strerror", None) or str(error)
