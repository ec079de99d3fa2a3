"""CIFAR-10 and CIFAR-100 from wherever they can be had, or Shapes-10 in their place.

Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. The files are looked for

1. in ``CNNLIB_DATA``, if it is set: an absolute path to the folder that holds ``cifar-10-batches-py``. If they do not
   verify there, that is an error and nothing else is tried;
2. in the user's cache folder, or in ``CNNLIB_CACHE`` if that is set;
3. on the net: in the places named by ``CNNLIB_MIRRORS`` (addresses of folders, separated by spaces), on the mirrors
   that cnnlib knows, on the original host. ``CNNLIB_OFFLINE=1`` leaves this step out.

Where all fail, :func:`load` draws Shapes-10 and says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import pooch
import torch

from cnnlib.data.download import PATIENT, Limits, download
from cnnlib.data.folders import LAYOUT, Images, image_folders
from cnnlib.data.images import DataError, ImageSet, channel_statistics, require_folder
from cnnlib.data.shapes import shapes10
from cnnlib.files import user_path
from cnnlib.spelling import plain


class StandInWarning(UserWarning):
    """Shapes-10 stands in for the data set that was asked for."""


@dataclass(frozen=True)
class FileCheck:
    """One file of a data set: whether it is as it must be, and in words what it is."""

    file: str
    ok: bool
    state: str


@dataclass(frozen=True)
class _Source:
    """One of the two data sets: its name and where else than at its original host it can be had."""

    name: str
    mirrors: tuple[str, ...]

    @property
    def reader(self) -> type:
        """torchvision's class, which reads the files and knows their names and checksums."""
        from torchvision import datasets  # here, because this import takes a second or more

        return getattr(datasets, self.name.replace("-", ""))

    @property
    def md5(self) -> dict[str, str]:
        """The checksum of every file."""
        meta = self.reader.meta
        return dict([*self.reader.train_list, *self.reader.test_list, (meta["filename"], meta["md5"])])

    @property
    def urls(self) -> list[str]:
        """Where the archive may be, in the order to try."""
        folders = [*os.environ.get("CNNLIB_MIRRORS", "").split(), *self.mirrors]
        return [*(f"{folder.rstrip('/')}/{self.reader.filename}" for folder in folders), self.reader.url]


_SOURCES = {
    "cifar10": _Source("CIFAR-10", mirrors=("https://air-example-data.s3.amazonaws.com",)),
    "cifar100": _Source("CIFAR-100", mirrors=()),
}
_CACHE = "the cache"
NAMES = (*_SOURCES, "shapes10")
"""The names that :func:`load` knows."""


def load(
    name: str = "cifar10",
    root: str | Path | None = None,
    *,
    stand_in: bool = True,
    progress: bool = True,
    patient: bool = False,
) -> Images:
    """Return a data set, after downloading it if need be.

    Args:
        name: ``"cifar10"``, ``"cifar100"``, ``"shapes10"``, or ``"imagenet"``, which has to be there.
        root: the folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``; comes before ``CNNLIB_DATA`` and
            is as strict. For ``"imagenet"`` see :func:`image_folders`.
        stand_in: return Shapes-10, with a :class:`StandInWarning`, where a CIFAR set cannot be had.
        progress: show a download's progress on stderr.
        patient: see :func:`fetch`.

    Raises:
        DataError: if the name is unknown, if ``root`` is given for what is drawn, if the folder named by ``root`` or
            ``CNNLIB_DATA`` does not verify, or if the set cannot be had and ``stand_in`` is false.
    """
    _require_known(name)
    if plain(name) == "shapes10":
        if root is not None:
            raise DataError("shapes10 is drawn, and read from no folder; leave out root (--root)")
        return shapes10()
    if plain(name) == "imagenet":
        if root is None:
            raise DataError(f"say which folder holds ImageNet: {LAYOUT}")
        return image_folders(root)
    source = _source(name)
    if strict := _strict_folder(root):
        return _read(source, *strict)
    with contextlib.suppress(DataError):
        return _read(source, cache_folder(), _CACHE)
    try:
        origin = fetch(name, progress=progress, patient=patient)
    except DataError as error:
        if not stand_in:
            raise
        reasons = "; ".join(str(error).splitlines())
        warnings.warn(f"SHAPES-10 STANDS IN FOR {source.name}, WHICH CANNOT BE HAD: {reasons}", StandInWarning, 2)
        return replace(shapes10(), stands_in_for=source.name)
    return _read(source, cache_folder(), origin)


def fetch(name: str = "cifar10", *, progress: bool = True, patient: bool = False) -> str:
    """Make sure that a CIFAR set is in the cache folder. Returns where it came from, in words.

    Several processes may do this at once: each downloads into a folder of its own and then puts whole, verified files
    in place.

    Args:
        name: ``"cifar10"`` or ``"cifar100"``.
        progress: show size, rate and time left on stderr.
        patient: wait for hosts however slow they are (the original one takes 40 to 60 minutes). Otherwise a host is
            given up within a minute if it stalls or gives less than 100 kB/s.

    Raises:
        DataError: if this is not a CIFAR set; if no host delivered, with what was wrong with each; if the cache folder
            cannot be written; if nothing may be downloaded, with what is wrong with each file in the cache.
    """
    source, folder = _source(name), cache_folder()
    wrong = _wrong_files(source, folder)
    if not wrong:
        return _CACHE
    advice = f"set CNNLIB_DATA to a folder that holds {source.reader.base_folder}"
    if os.environ.get("CNNLIB_OFFLINE", "0") not in ("", "0"):
        lines = [f"CNNLIB_OFFLINE is set and {source.name} is not in the cache"]
        if os.path.isdir(folder / source.reader.base_folder):
            lines = [f"CNNLIB_OFFLINE is set and {source.name} in the cache, {folder}, is not whole", *wrong]
        raise DataError("\n".join([*lines, advice]))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as temporary:
            archive, host = download(
                source.urls,
                source.reader.filename,
                source.reader.tgz_md5,
                Path(temporary),
                limits=PATIENT if patient else Limits(),
                progress=progress,
            )
            _install(source, archive, folder)
    except DataError as error:
        patience = f", or have patience with slow hosts: python -m cnnlib data fetch {plain(name)} --patient"
        raise DataError(f"{error}\n{advice}{'' if patient else patience}") from None
    except OSError as error:
        raise DataError(f"{folder} cannot be used ({error.strerror})\nset CNNLIB_CACHE to another folder") from error
    return f"downloaded from {host}"


def verify(name: str = "cifar10", root: str | Path | None = None) -> list[FileCheck]:
    """Compare every file of a CIFAR set with its checksum, in ``root``, else ``CNNLIB_DATA``, else the cache.

    Raises:
        DataError: if this is not a CIFAR set or ``CNNLIB_DATA`` is no absolute path.
    """
    return _checks(_source(name), data_folder(root))


def data_folder(root: str | Path | None = None) -> Path:
    """Return the folder that :func:`load` reads: ``root``, else ``CNNLIB_DATA``, else the cache.

    Raises:
        DataError: if ``CNNLIB_DATA`` is no absolute path.
    """
    strict = _strict_folder(root)
    return strict[0] if strict else cache_folder()


def cache_folder() -> Path:
    """Return the folder that downloads go to: ``CNNLIB_CACHE``, else the place the system has for caches."""
    return user_path(os.environ.get("CNNLIB_CACHE") or pooch.os_cache("cnnlib")).absolute()


def _require_known(name: object) -> None:
    known = (*NAMES, "imagenet")
    if not isinstance(name, str) or plain(name) not in known:
        raise DataError(f"unknown data set {name!r}; choose one of {', '.join(known)}")


def _source(name: str) -> _Source:
    _require_known(name)
    if plain(name) not in _SOURCES:
        raise DataError(f"only {' and '.join(_SOURCES)} are downloaded and verified, not {name!r}")
    return _SOURCES[plain(name)]


def _strict_folder(root: str | Path | None) -> tuple[Path, str] | None:
    """Return the folder that the user has named, and how; None if the user has left it to us."""
    if root is not None:
        require_folder(root)
        return user_path(root), "the folder named by root"
    if not (value := os.environ.get("CNNLIB_DATA")):
        return None
    folder = user_path(value)
    if not folder.is_absolute():
        raise DataError(
            f"CNNLIB_DATA={value} is a relative path, which means another folder in a notebook than in a terminal; "
            f"set it to an absolute one, such as {folder.absolute()}"
        )
    return folder, "the folder named by CNNLIB_DATA"


def _read(source: _Source, folder: Path, origin: str) -> ImageSet:
    try:
        train, test = source.reader(folder, train=True), source.reader(folder, train=False)
    except (RuntimeError, OSError) as error:  # torchvision: "not found or corrupted", without saying which file
        raise DataError(_complaint(source, folder, origin)) from error
    # torchvision turns images to (N, 32, 32, 3) as a view; turned back they are contiguous.
    train_images, test_images = (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in (train, test))
    mean, std = channel_statistics(train_images)
    return ImageSet(
        name=source.name,
        train_images=train_images,
        train_labels=torch.tensor(train.targets),
        test_images=test_images,
        test_labels=torch.tensor(test.targets),
        classes=tuple(train.classes),
        mean=mean,
        std=std,
        origin=origin,
    )


def _complaint(source: _Source, folder: Path, origin: str) -> str:
    reader = source.reader
    if not os.path.isdir(folder):  # False, too, where one may not look; Path.is_dir raises there
        problems = ["there is no such folder"]
    elif folder.name == reader.base_folder:
        problems = [f"name the folder that holds {reader.base_folder}, not {reader.base_folder} itself"]
    elif not os.path.isdir(folder / reader.base_folder):
        others = [other.name for other in _SOURCES.values() if os.path.isdir(folder / other.reader.base_folder)]
        problems = [f"there is no {reader.base_folder} in it" + (f", only {' and '.join(others)}" if others else "")]
    else:
        problems = _wrong_files(source, folder)
    lines = [f"{origin}, {folder}, does not hold {source.name}:", *problems]
    advice = f"unpack {reader.filename} (md5 {reader.tgz_md5}) there, or name no folder to have it downloaded"
    return "\n  ".join(lines) + "\n" + advice


def _wrong_files(source: _Source, folder: Path) -> list[str]:
    """Return which files are not as they must be, and what they are."""
    return [f"{check.file} is {check.state}" for check in _checks(source, folder) if not check.ok]


def _checks(source: _Source, folder: Path) -> list[FileCheck]:
    return [_check(folder, f"{source.reader.base_folder}/{file}", md5) for file, md5 in source.md5.items()]


def _check(folder: Path, file: str, md5: str) -> FileCheck:
    try:
        found = pooch.file_hash(folder / file, alg="md5")
    except FileNotFoundError:
        return FileCheck(file, False, f"missing (its md5 is {md5})")
    except OSError as error:
        return FileCheck(file, False, f"unreadable: {error.strerror}")
    if found != md5:
        return FileCheck(file, False, f"damaged (md5 {found}, must be {md5})")
    return FileCheck(file, True, "ok")


_PREFIX = ".download-"


def _remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed in mid-download have left behind, once it is a day old."""
    for leftover in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # another process is tidying up too
            if time.time() - leftover.stat().st_mtime > 24 * 3600:
                shutil.rmtree(leftover, ignore_errors=True)


def _install(source: _Source, archive: Path, folder: Path) -> None:
    """Unpack the files that we know beside the archive, then move each into place in one step."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and (file := Path(member.name).name) in source.md5:
                with tar.extractfile(member) as packed, open(archive.parent / file, "wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    target = folder / source.reader.base_folder
    target.mkdir(exist_ok=True)
    for file in source.md5:
        # Left alone if it is right already: another process may have put it there meanwhile, and may be reading it.
        if not _check(target, file, source.md5[file]).ok:
            os.replace(archive.parent / file, target / file)
