"""``python -m cnnlib data``: fetch, verify and show the data sets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cnnlib.data.cifar import NAMES, cache_folder, data_folder, fetch, load, verify
from cnnlib.data.images import DataError, ImageSet
from cnnlib.files import user_path
from cnnlib.spelling import plain

ENVIRONMENT = """environment:
  CNNLIB_DATA     absolute path of a folder that holds cifar-10-batches-py; must verify if set
  CNNLIB_CACHE    folder for downloads, instead of the system's cache folder
  CNNLIB_MIRRORS  addresses of folders to download from before all others, separated by spaces
  CNNLIB_OFFLINE  set to 1, nothing is downloaded
"""


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``data`` with its subcommands."""
    data = subparsers.add_parser(
        "data",
        help="fetch, verify and show the data sets",
        description="CIFAR-10 and CIFAR-100: download them, verify them, look at them.",
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    cifar = [name for name in NAMES if name != "shapes10"]

    command = commands.add_parser(
        "fetch",
        help="download into the cache, unless it is there",
        description="Download a data set into the cache, CNNLIB_CACHE or the system's, unless it is there and every "
        "file has its checksum.",
    )
    _add_name(command, cifar)
    command.add_argument(
        "--patient", action="store_true", help="wait for slow hosts; the original one takes 40 to 60 minutes"
    )
    command.set_defaults(run=_fetch)

    command = commands.add_parser(
        "verify",
        help="compare every file with its checksum; exit status 1 if one is wrong",
        description="Compare every file of a data set with its checksum, in CNNLIB_DATA if it is set, else in the "
        "cache. Nothing is downloaded. The exit status is 1 if a file is missing or damaged.",
    )
    _add_name(command, cifar)
    command.set_defaults(run=_verify)

    command = commands.add_parser(
        "show",
        help="sizes, classes, mean and deviation, and a picture of samples",
        description="Show sizes, classes, mean and deviation of a data set. It is read from CNNLIB_DATA if it is set, "
        "else from the cache, else downloaded into it; Shapes-10 is shown where it cannot be had.",
    )
    _add_name(command, NAMES)
    command.add_argument(
        "--out", type=user_path, metavar="FILE.png", help="write 12 training images of each class, a row for each"
    )
    command.set_defaults(run=_show)


def _add_name(parser: argparse.ArgumentParser, choices: Sequence[str]) -> None:
    parser.add_argument("name", nargs="?", type=plain, default="cifar10", choices=choices, help="(cifar10)")


def _fetch(options: argparse.Namespace) -> None:
    origin = fetch(options.name, patient=options.patient)
    print(f"{options.name}: {origin}; verified in {cache_folder()}")
    if data_folder() != cache_folder():
        print(f"CNNLIB_DATA is set, so trainings read {data_folder()} instead.")


def _verify(options: argparse.Namespace) -> int:
    print(f"{options.name} in {data_folder()}")
    checks = verify(options.name)
    for check in checks:
        print(f"  {check.file}: {check.state}")
    return 0 if all(check.ok for check in checks) else 1


def _show(options: argparse.Namespace) -> None:
    from cnnlib.training.cli import warnings_in_a_line

    with warnings_in_a_line():
        data = load(options.name)
    print(data)
    print(f"from     {data.origin}")
    print(f"classes  {', '.join(data.classes)}")
    print(f"mean     {' '.join(f'{value:.4f}' for value in data.mean)}  of red, green and blue, scaled to [0, 1]")
    print(f"std      {' '.join(f'{value:.4f}' for value in data.std)}")
    if options.out:
        _write_samples(data, options.out)
        print(f"samples  {options.out}, one row for each class")


def _write_samples(data: ImageSet, file: Path, columns: int = 12, scale: int = 2) -> None:
    import torch
    from torchvision.utils import make_grid, save_image

    columns = min(columns, int(data.train_labels.bincount().min()))
    rows = [data.train_images[data.train_labels == label][:columns] for label in range(len(data.classes))]
    grid = make_grid(torch.cat(rows), nrow=columns).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    try:
        save_image(grid / 255, file)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{file} cannot be written: {reason}; name a file in a folder that there is") from error
    except ValueError as error:  # Pillow knows no format of this ending
        raise DataError(f"{file} cannot be written: {error}; give it the ending .png") from error
