"""Checkpoints: whole or not there, and never of another training than the one that continues."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import torch

from cnnlib.files import locked, reason, replacing
from cnnlib.training.errors import CheckpointError, CheckpointMismatch
from cnnlib.training.recipe import WORDS

FORMAT = 1


@contextlib.contextmanager
def held(path: Path | None) -> Iterator[None]:
    """Within this context no other training uses the checkpoint; two would write over each other's state.

    Raises:
        CheckpointError: if another training does.
    """
    with contextlib.ExitStack() as stack:
        if path:
            try:
                stack.enter_context(locked(path, wait=False))
            except filelock.Timeout:
                said = f"another training uses the checkpoint {path} at this moment"
                raise CheckpointError(f"{said}; wait for its end, or give another path") from None
        yield


def write(path: Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
    """Write a checkpoint in the place of an older one, see :func:`cnnlib.files.replacing`.

    Args:
        path: of the checkpoint.
        identity: what the training is; compared by :func:`require_same`.
        state: how far it is. Tensors, numbers, text, lists and dictionaries only.

    Raises:
        CheckpointError: if it cannot be written.
    """
    try:
        with replacing(path) as file:
            torch.save({"format": FORMAT, "identity": identity, "state": state}, file)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write the checkpoint {path}: {reason(error)}") from error


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return identity and state of a checkpoint, its tensors on the CPU, or None if there is no such file.

    The file is read as data: nothing in it is executed.

    Raises:
        CheckpointError: if the file is damaged, or no checkpoint, or the path that of a folder.
    """
    try:
        if not path.exists():
            return None
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {reason(error)}") from error
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; give the path of the checkpoint itself")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not compare checksums
        if damaged:
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged byte leads to: reading it raises a dozen kinds
        known = isinstance(error, zipfile.BadZipFile | OSError)
        raise _damaged(path, str(error) if known else "it holds something else") from error
    match content:
        case {"format": version, "identity": dict(identity), "state": dict(state)} if version == FORMAT:
            return identity, state
    raise _damaged(path, "it holds something else")


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"the checkpoint {path} is damaged ({reason}); delete it to train from the start")


def require_same(path: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Compare two identities, but for what is only said about the recipe.

    Raises:
        CheckpointMismatch: naming every value that differs.
    """
    different = differences(saved, wanted)
    if different:
        raise CheckpointMismatch(
            f"the checkpoint {path} belongs to another training: {'; '.join(different)}. "
            "Give another path, or delete the file"
        )


def differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Return in words where two identities differ, but for what is only said about the recipe."""
    there, here = _flat(there), _flat(here)
    return [
        f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
        for key in sorted((there.keys() | here.keys()) - {f"recipe.{word}" for word in WORDS})
        if there.get(key) != here.get(key)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one, with dotted keys."""
    flat = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
