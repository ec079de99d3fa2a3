"""Progress of a training: a line in a terminal, one output in a notebook, nothing anywhere else.

A notebook's output is a piece of plain text that is replaced in place and empty in the end. Widgets would put
megabytes of state into the stored notebook, and lines written to a stream would stay there.
"""

from __future__ import annotations

import shutil
import sys
from html import escape
from typing import Any

from tqdm import tqdm

MIN_INTERVAL = 0.5  # seconds between changes of what is shown
BAR = "{percentage:3.0f}% |{bar}| step {n_fmt}/{total_fmt}, {remaining} left{postfix}"


def in_notebook() -> bool:
    """Tell whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config


class Progress:
    """Where the progress of one training, or of several one after the other, is shown.

    Args:
        enabled: False shows nothing.
        prefix: text before what each training says of itself; may be set between trainings.
    """

    def __init__(self, enabled: bool = True, prefix: str = "") -> None:
        self.prefix = prefix
        self._output = _NotebookOutput() if enabled and in_notebook() else None
        self._terminal = enabled and self._output is None and sys.stderr is not None and sys.stderr.isatty()

    def start(self, statement: str, steps: int, done: int) -> tqdm:
        """Say what is trained where, and return its bar.

        Args:
            statement: one line.
            steps: of the whole training.
            done: of them already, in an earlier session.
        """
        shown = self._terminal or self._output is not None
        statement = self.prefix + statement
        if self._output:
            self._output.statement = statement
        elif shown:
            print(statement, file=sys.stderr)
        return tqdm(
            total=steps,
            initial=done,
            disable=not shown,
            leave=False,
            file=self._output or sys.stderr,
            bar_format=BAR,
            ncols=min(100, shutil.get_terminal_size().columns) if self._terminal else None,
            mininterval=MIN_INTERVAL,
        )

    def close(self) -> None:
        """Leave nothing behind in a notebook."""
        if self._output:
            self._output.clear()


class _NotebookOutput:
    """A file that shows the last line written to it, by replacing one output of the cell."""

    def __init__(self) -> None:
        from IPython.display import display

        self.statement = ""
        self._handle = display(self._content(""), raw=True, display_id=True)

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            self._handle.update(self._content(f"{self.statement}\n{line}"), raw=True)

    def flush(self) -> None:
        """Nothing is held back."""

    def clear(self) -> None:
        self._handle.update(self._content(""), raw=True)

    @staticmethod
    def _content(text: str) -> dict[str, Any]:
        return {"text/plain": text, "text/html": f"<pre>{escape(text)}</pre>" if text else ""}
