"""``python -m cnnlib train`` and ``python -m cnnlib bench``."""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import functools
import hashlib
import json
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlib.files import user_path
from cnnlib.spelling import plain

if TYPE_CHECKING:
    from cnnlib.data import Images
    from cnnlib.training import Recipe

TRAIN_EXAMPLES = """examples:
  python -m cnnlib train resnet20 --epochs 1
  python -m cnnlib train alexnet-cifar --steps 500 --set activation=nn.Tanh --lr 0.01
  python -m cnnlib train resnet50 --data imagenet --root DIR
  torchrun --nproc-per-node=4 -m cnnlib train resnet50 --data imagenet --root DIR
The same command again continues a training that was broken off, and ends with the same numbers.

The batch size is that of all processes together. Each takes an equal share, on a GPU or on processor cores of its own.
Batch normalisation uses the mean and variance of each share; with --sync-bn, on GPUs, those of the whole batch.
"""

MOST_THREADS = 1024
"""With some more of them the process would end without a word."""


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Add ``train`` and ``bench``."""
    train = subparsers.add_parser(
        "train",
        help="train a model and record the run",
        description="Train a model, show its errors, and record the run.",
        epilog=TRAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("model", metavar="MODEL", help="a name that `python -m cnnlib models` lists")
    train.add_argument(
        "--recipe",
        metavar="NAME",
        help="a paper's recipe by name; default: the model family's, or AlexNet's where none is known; "
        "of ImageNet's models on ImageNet: resnet-imagenet",
    )
    length = train.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float, metavar="N", help="train for N passes, with the schedule's shape kept")
    length.add_argument("--steps", type=int, metavar="N", help="train for N steps, with the schedule's shape kept")
    train.add_argument("--batch-size", type=int, metavar="N", help="change the recipe's batch size")
    train.add_argument("--lr", type=float, metavar="X", help="change the recipe's learning rate")
    train.add_argument(
        "--set", action="append", default=[], metavar="OPTION=VALUE", help="change an option of the model; repeatable"
    )
    train.add_argument("--seed", type=int, default=0, metavar="K", help="of weights, order, augmentation, dropout (0)")
    train.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="use torch.compile; default: where it pays"
    )
    train.add_argument(
        "--sync-bn", action="store_true", help="normalise over the whole batch, not each process's share; on GPUs only"
    )
    train.add_argument(
        "--out", type=user_path, default=Path("runs"), metavar="DIR", help="folder of the records (runs)"
    )
    state = train.add_mutually_exclusive_group()
    state.add_argument(
        "--checkpoint",
        type=user_path,
        metavar="PATH",
        help="file to save the state in and to continue from, removed when record and weights are saved; "
        "default: beside the record",
    )
    state.add_argument("--no-checkpoint", action="store_true", help="save no state on the way")
    _add_common(train, "cifar10 (default), cifar100, shapes10 or imagenet")
    train.add_argument(
        "--root", type=Path, metavar="DIR", help="folder that holds the data set; of ImageNet: DIR/train, DIR/val"
    )
    train.add_argument(
        "--workers", type=int, metavar="N", help="processes that read images from files; default: one for each core"
    )
    train.set_defaults(run=run_train)

    bench = subparsers.add_parser(
        "bench",
        help="compare our training speed with the usual loop's",
        description="Train with cnnlib, with the loop of many tutorials and with what lies between them, in turns, and "
        "compare images per second.",
    )
    bench.add_argument("model", metavar="MODEL", nargs="?", default="resnet20", help="registered name (resnet20)")
    bench.add_argument("--batch-size", type=int, default=128, metavar="N", help="images a step (128)")
    bench.add_argument("--rounds", type=int, default=5, metavar="N", help="how often each loop is timed (5)")
    bench.add_argument("--steps", type=int, default=20, metavar="N", help="batches in a round (20)")
    bench.add_argument("--workers", type=int, default=2, metavar="N", help="of the usual loop's DataLoader (2)")
    bench.add_argument("--compile", action="store_true", help="compare torch.compile too, which takes a minute or more")
    _add_common(bench, "cifar10 (default), cifar100 or shapes10")
    bench.set_defaults(run=run_bench)


def _add_common(parser: argparse.ArgumentParser, data: str) -> None:
    parser.add_argument("--data", type=plain, default="cifar10", metavar="NAME", help=data)
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1; default: CNNLIB_DEVICE, else a GPU if there is one"
    )
    parser.add_argument(
        "--precision", metavar="P", help="fp32, bf16 or fp16; default: the fastest that the hardware itself computes in"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of PyTorch on the CPU")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run_train(options: argparse.Namespace) -> None:
    """Train, print the result, save the record and the weights.

    Raises:
        ArgumentError: if an option does not suit the data.
    """
    import torch

    from cnnlib.files import reason, replacing
    from cnnlib.models import create
    from cnnlib.training import RunError, distributed, fit, hardware
    from cnnlib.training.checkpoint import holds_finished

    _refuse_idle_options(options)
    use_threads(options.threads)
    processes = distributed.join(options.device)
    recipe = _recipe(options)
    overrides = dict(_override(text) for text in options.set)
    # What `fit` would refuse as well, but after the data are there.
    hardware.checked_seed(options.seed)
    hardware.precision(processes.device, options.precision)
    processes.check_sync_bn(options.sync_bn)
    processes.check_batch(recipe.batch_size)
    if overrides:
        with torch.device("meta"):
            create(options.model, **overrides)
    data = load_data(
        *(options.data, options.root),
        progress=not options.quiet,
        say=processes.is_first,
        cut=functools.partial(_cut_for, options),
    )
    stem = options.out / _stem(options, recipe, overrides, data)
    record, weights, state = (stem.with_name(stem.name + ending) for ending in (".json", ".pt", ".checkpoint"))
    checkpoint = None if options.no_checkpoint else options.checkpoint or state
    if processes.is_first:
        check_folder(options.out)
    with warnings_in_a_line():
        run = fit(
            (options.model, overrides),
            data,
            recipe,
            seed=options.seed,
            device=options.device,
            precision=options.precision,
            compile=options.compile,
            sync_bn=options.sync_bn,
            checkpoint=checkpoint,
            progress=not options.quiet,
        )
    if not processes.is_first:
        return
    missing = "the record and the weights"
    try:
        run.save(record)
        missing = f"the weights (the record is {record})"
        with replacing(weights) as file:
            torch.save(run.module.state_dict(), file)
    except (OSError, RuntimeError) as error:
        if checkpoint and holds_finished(checkpoint):
            advice = f"when that is mended the same command saves them, from {checkpoint}"
        elif checkpoint and checkpoint.exists():
            advice = f"when that is mended the same command trains the last steps again, from {checkpoint}"
        else:
            advice = "the weights are lost; make room there, or choose another folder, --out DIR, and train again"
        raise RunError(f"cannot save {missing} in {options.out}: {reason(error)}; {advice}") from error
    finally:  # the errors are known even if they cannot be saved
        print(run)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    print(f"record   {record}")
    print(f"weights  {weights}")


def run_bench(options: argparse.Namespace) -> None:
    """Compare the loops and print the table."""
    from cnnlib.data import NAMES, DataError
    from cnnlib.models import card
    from cnnlib.training.bench import bench
    from cnnlib.training.errors import check_at_least

    if options.data == "imagenet":
        raise DataError(f"bench times trainings on images in memory: choose one of {', '.join(NAMES)}")
    # What `bench` would refuse as well, but after the data are there.
    card(options.model)
    check_at_least(1, batch_size=options.batch_size, rounds=options.rounds, steps=options.steps)
    check_at_least(0, workers=options.workers)
    use_hardware(options)
    print(
        bench(
            load_data(options.data, progress=not options.quiet),
            options.model,
            batch_size=options.batch_size,
            rounds=options.rounds,
            steps=options.steps,
            workers=options.workers,
            device=options.device,
            precision=options.precision,
            compile=options.compile,
            progress=not options.quiet,
        )
    )


def load_data(
    name: str,
    root: Path | None = None,
    *,
    progress: bool,
    say: bool = True,
    cut: Callable[[Images], Images] = lambda data: data,
) -> Images:
    """Load a data set and ``cut`` it; say what it is, unless another process does, and loudly if it is a stand-in."""
    from cnnlib.data import load

    with warnings_in_a_line():
        if not say:
            warnings.simplefilter("ignore")
        data = cut(load(name, root, progress=progress and say))
    if say:
        print(data, file=sys.stderr)
    return data


@contextlib.contextmanager
def warnings_in_a_line() -> Iterator[None]:
    """Within this context what this package warns of is a line on stderr, without the place in its code."""
    from cnnlib.data import StandInWarning
    from cnnlib.training import TrainingWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", StandInWarning)
        warnings.simplefilter("always", TrainingWarning)
        show_place = warnings.showwarning

        def show(message: Warning, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, StandInWarning):
                print(f"*** {message} ***", file=sys.stderr)
            elif issubclass(category, TrainingWarning):
                print(f"warning: {message}", file=sys.stderr)
            else:
                show_place(message, category, *place, **more)

        warnings.showwarning = show
        yield


def check_folder(folder: Path) -> None:
    """Make a folder and see that files can be written there: before the training, and not after it.

    Raises:
        RunError: if they cannot.
    """
    from cnnlib.training import RunError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        why = "it is no folder" if folder.exists() and not folder.is_dir() else error.strerror
        raise RunError(f"cannot write into the folder {folder}: {why}; choose another, --out DIR") from error


def use_threads(count: int | None) -> None:
    """Set the number of PyTorch's threads, if one is given.

    Raises:
        ArgumentError: if it is not positive, or more than :data:`MOST_THREADS`.
    """
    import torch

    from cnnlib.training.errors import ArgumentError, check_at_least

    check_at_least(1, threads=count)
    if count is not None:
        if count > MOST_THREADS:
            raise ArgumentError(f"threads must be at most {MOST_THREADS}, not {count}; more than cores help nothing")
        torch.set_num_threads(count)


def use_hardware(options: argparse.Namespace) -> None:
    """Set the number of threads, and see that there are such a device and precision.

    Raises:
        ArgumentError: as :func:`use_threads`, or if there is no such precision.
        UnknownDevice: if this machine has no such device.
    """
    from cnnlib import settings
    from cnnlib.training import hardware

    use_threads(options.threads)
    hardware.precision(settings.device(options.device), options.precision)


def _refuse_idle_options(options: argparse.Namespace) -> None:
    """Refuse options that would change nothing.

    Raises:
        ArgumentError: naming the option.
    """
    from cnnlib.data import NAMES
    from cnnlib.training import ArgumentError

    if options.workers is not None and options.data in NAMES:
        raise ArgumentError(f"{options.data} lies in memory, and no processes read it from files; leave out --workers")


def _recipe(options: argparse.Namespace) -> Recipe:
    from cnnlib.models import card
    from cnnlib.training import find_recipe, recipe_for

    model = card(options.model)
    if options.recipe:
        recipe = find_recipe(options.recipe)
    elif options.data == "imagenet" and model.dataset == "ImageNet":
        recipe = find_recipe("resnet-imagenet")
    else:
        recipe = recipe_for(model.name)
    changes = {"batch_size": options.batch_size, "lr": options.lr}
    recipe = recipe.replace(**{key: value for key, value in changes.items() if value is not None})
    if options.epochs is None and options.steps is None:
        return recipe
    return recipe.limited(epochs=options.epochs, steps=options.steps)


def _cut_for(options: argparse.Namespace, data: Images) -> Images:
    """Return images; those in files cut to what the model was made for, if that was ImageNet."""
    from cnnlib.data import ImageFolders
    from cnnlib.models import card

    if not isinstance(data, ImageFolders):
        return data
    model = card(options.model)
    size = model.input_size[-1] if model.dataset == "ImageNet" else data.size
    return dataclasses.replace(data, size=size, workers=options.workers)


def _override(text: str) -> tuple[str, Any]:
    """Return option and value of ``OPTION=VALUE``; the value is JSON or Python's, or else text."""
    from cnnlib.training import RecipeError

    option, equals, value = text.partition("=")
    if not (option and equals):
        raise RecipeError(f"--set needs OPTION=VALUE, not {text!r}")
    for read in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError):
            return option, read(value)
    return option, value


def _stem(options: argparse.Namespace, recipe: Recipe, overrides: dict[str, Any], data: Images) -> str:
    """Return a file name that other settings do not share, so that a checkpoint is never another training's."""
    length = f"{recipe.iterations}steps" if recipe.iterations else f"{recipe.epochs:g}epochs"
    training = [recipe.as_dict(), overrides, data.fingerprint]
    how = [str(options.device), options.precision, options.compile, options.sync_bn]
    settings = json.dumps([*training, *how], sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:6]
    name = re.sub("[^a-z0-9]", "", data.name.lower())
    return f"{options.model}-{name}-{length}-seed{options.seed}-{digest}"
