"""Ctrl-C that waits for a moment at which stopping does no harm."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

STOP = threading.Event()
"""Set by the main thread, to which alone Ctrl-C comes, when the trainings in other threads shall stop."""


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Within this context, in the main thread, Ctrl-C does nothing.

    Before Python 3.13 a thread whose end is waited for counts as ended when Ctrl-C breaks off the wait.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


class Interrupts:
    """Holds back Ctrl-C until :meth:`check`, so that the state is whole when the training stops.

    A second Ctrl-C is let through at once; then ``forced`` is true, and the state may be half-changed. In other threads
    than the main one, where signals never arrive, :data:`STOP` takes its place.

    Of several processes that train together only the first listens: it needs the others to finish its step, and they
    end when it has ended.
    """

    def __init__(self, listening: bool = True) -> None:
        self.forced = False
        self._handler = self._handle if listening else signal.SIG_IGN
        self._pending = False
        self._holding = True

    def __enter__(self) -> None:
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        if self._in_main_thread:
            self._before = signal.signal(signal.SIGINT, self._handler)

    def __exit__(self, *_: object) -> None:
        if self._in_main_thread:
            signal.signal(signal.SIGINT, self._before or signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._holding and not self._pending:
            self._pending = True
            return
        self.forced = self._holding
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise the KeyboardInterrupt that was held back, if any."""
        if self._pending or (STOP.is_set() and not self._in_main_thread):
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def let_through(self) -> Iterator[None]:
        """Within this context Ctrl-C is not held back."""
        self.check()
        self._holding = False
        try:
            yield
        finally:
            self._holding = True
