"""Checkpoints: whole or not there, and never of another training than the one that continues."""

from __future__ import annotations

import contextlib
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import torch

from cnnlib.errors import CnnlibError
from cnnlib.files import check_writable, locked, reason, replacing
from cnnlib.training.errors import CheckpointError, CheckpointMismatch
from cnnlib.training.recipe import WORDS

FORMAT = 1
LATER = ("layers", "mean", "std")
"""What the first versions did not keep of a training. A checkpoint without them may be that of any."""
ZIP = b"PK\x03\x04"
"""How every checkpoint begins, since PyTorch writes archives."""
Saved = tuple[dict[str, Any], dict[str, Any]]
"""Identity and state."""


@contextlib.contextmanager
def held(path: Path | None) -> Iterator[None]:
    """Within this context no other training uses the checkpoint; two would write over each other's state.

    Raises:
        CheckpointError: if another training does, or the path is none of a file.
    """
    with contextlib.ExitStack() as stack:
        if path:
            try:
                stack.enter_context(locked(path, wait=False))
            except filelock.Timeout:
                said = f"another training uses the checkpoint {path} at this moment"
                raise CheckpointError(f"{said}; wait for its end, or give another path") from None
            except IsADirectoryError:
                raise _no_file(path) from None
        yield


def check_can_be_written(path: Path) -> None:
    """See that a checkpoint can be written: before the training, and not when its first state is to be saved.

    Raises:
        CheckpointError: if it cannot.
    """
    try:
        check_writable(path)
    except OSError as error:
        raise CheckpointError(f"cannot write the checkpoint {path}: {reason(error)}; give another path") from error


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


def read(path: Path) -> Saved | None:
    """Return identity and state of a checkpoint, its tensors on the CPU, or None if there is no such file.

    The file is read as data: nothing in it is executed.

    Raises:
        CheckpointError: if the file is damaged, or no checkpoint, or the path that of a folder.
    """
    try:
        if not path.exists():
            return None
        if not path.is_file():
            raise _no_file(path)
        with path.open("rb") as file:
            begins = file.read(len(ZIP))
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {reason(error)}") from error
    if not ZIP.startswith(begins) and not zipfile.is_zipfile(path):
        raise _no_checkpoint(path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not compare checksums
        if damaged:
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
    except Exception as error:  # whatever a damaged byte leads to: reading it raises a dozen kinds
        known = isinstance(error, zipfile.BadZipFile | OSError)
        raise _damaged(path, str(error) if known else "it holds something else") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # it is whole, so that it is somebody else's
        raise _no_checkpoint(path) from error
    match content:
        case {"format": version, "identity": dict(identity), "state": dict(state)} if version == FORMAT:
            return identity, state
        case {"format": _}:
            raise _damaged(path, "it holds something else")
    raise _no_checkpoint(path)


def is_finished(saved: Saved) -> bool:
    """Tell whether a training is over."""
    return bool(saved[1].get("train"))


def holds_finished(path: Path) -> bool:
    """Tell whether there is a checkpoint from which a training that is over can be returned."""
    try:
        saved = read(path)
    except CheckpointError:
        return False
    return saved is not None and is_finished(saved)


@contextlib.contextmanager
def damage_explained(path: Path) -> Iterator[None]:
    """Within this context, in which a state is taken back, one that lacks something is one clear error.

    Raises:
        CheckpointError: in the place of what Python and PyTorch raise.
    """
    try:
        yield
    except (CnnlibError, torch.OutOfMemoryError):
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else textwrap.shorten(str(error), 200)
        raise CheckpointError(
            f"the checkpoint {path} is damaged, or that of another network ({what}); give another path, or delete it "
            "to train from the start"
        ) from error


def _no_file(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is not a file; give the path of the checkpoint itself")


def _no_checkpoint(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is no checkpoint of cnnlib; give another path")


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"the checkpoint {path} is damaged ({reason}); delete it to train from the start")


def require_same(path: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Compare two identities, but for what is only said about the recipe, or was not kept yet.

    Raises:
        CheckpointMismatch: naming every value that differs.
    """
    different = differences(saved, {key: value for key, value in wanted.items() if key in saved or key not in LATER})
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
