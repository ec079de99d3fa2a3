"""The command line: ``python -m cnnlib COMMAND``."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence

import cnnlib
from cnnlib.errors import CnnlibError

COMMAND_MODULES = tuple(f"cnnlib.{area}.cli" for area in ("models", "measure", "training", "studies", "data"))
EXAMPLES = """examples:
  python -m cnnlib models 'alexnet*'                 the names that create() knows, with their counts
  python -m cnnlib summary alexnet                   shapes, parameters, multiply-adds layer by layer
  python -m cnnlib train resnet20 --epochs 1         train on CIFAR-10 and save a record of the run
  python -m cnnlib COMMAND --help                    all options of one command
"""


def parser() -> argparse.ArgumentParser:
    """Build the parser from the ``add_commands`` function of every area that has commands."""
    top = argparse.ArgumentParser(
        prog="python -m cnnlib",
        description="Convolutional architectures: look at them, measure them, train them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"cnnlib {cnnlib.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMAND_MODULES:
        importlib.import_module(module).add_commands(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Return the exit status: 0, 2 after an error that the user can mend, 130 after Ctrl-C.

    After Ctrl-C the process ignores every further one.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the tables' signs, in a terminal that knows ASCII only
    if sys.stderr is None:  # the shell has closed it
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        options = parser().parse_args(arguments)
        status = options.run(options) or 0
        if sys.stdout:  # there is none if the shell has closed it
            sys.stdout.flush()  # now, while a reader that went away is no error
        return status
    except CnnlibError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:  # that of a training says how to continue
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to stop: one more would end in a traceback
        print(f"\n{str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of `python -m cnnlib models | head` has seen enough
        _drop_output()
        return 0
    except OSError as error:
        if error.filename:
            print(f"error: cannot use {error.filename}: {error.strerror}", file=sys.stderr)
        elif _output_fails():
            _drop_output()
            print(f"error: cannot write the output: {error.strerror}; send it elsewhere", file=sys.stderr)
        else:
            raise
        return 2


def _output_fails() -> bool:
    """Tell whether standard output takes nothing more: the error of a failed write does not name it."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _drop_output() -> None:
    """Send what is still buffered nowhere, or it would fail once more at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
