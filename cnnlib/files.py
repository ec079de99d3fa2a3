"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of ``path`` at the end of the context, unless that fails. Folders are made.

    ``path`` holds the old content or the new at every moment, even if power fails.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> Path:
    """Write values as JSON, see :func:`replacing`, and return where they lie."""
    with replacing(path) as file:
        file.write(f"{json.dumps(content, indent=1)}\n".encode())
    return Path(path)


def reason(error: Exception) -> str:
    """Return what the system says of a failed write. PyTorch raises an error of its own in handling the system's."""
    system = error if isinstance(error, OSError) else error.__context__
    return getattr(system, "strerror", None) or str(error)
