"""Downloads that come to an end: a verified file, or one error that lists what was wrong with every host.

No host can hold a program up. One that does not answer, falls silent or is too slow is left for the next within
:attr:`Limits.longest` seconds.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch
import requests
import urllib3
from tqdm import tqdm

from cnnlib.data.images import DataError


@dataclass(frozen=True)
class Limits:
    """How long a host may keep us waiting.

    Attributes:
        answer: seconds from the request to the head of the answer, the look-up of the host's name included.
        silence: seconds without a single byte.
        rate: bytes a second that must arrive on average in each ``window``; 0 accepts any rate.
        window: seconds.
    """

    answer: float = 15.0
    silence: float = 15.0
    rate: float = 100e3
    window: float = 30.0

    @property
    def longest(self) -> float:
        """Seconds after which a host that is of no use has been left, at most."""
        return self.answer + self.window + self.silence


PATIENT = Limits(answer=60, silence=300, rate=0)
"""For a throttled host: any rate will do."""


class HostFailed(Exception):
    """One host did not deliver; the message says why in a few words."""


def download(
    urls: Iterable[str], filename: str, md5: str, folder: Path, *, limits: Limits, progress: bool
) -> tuple[Path, str]:
    """Download one file from the first of several places that delivers it whole.

    Args:
        urls: places of the same file, tried in order; redirects are followed.
        filename: its name in ``folder``, where it appears only once it is verified.
        md5: the checksum it must have.
        folder: must exist.
        limits: when to give a host up.
        progress: show size, rate and time left, and every failure as it happens, on stderr.

    Returns:
        the file, and the name of the host that it came from.

    Raises:
        DataError: if no place delivered; the message has a line for each.
    """
    failures = []
    for url in urls:
        try:
            with _quiet(pooch.get_logger()):
                file = pooch.retrieve(url, f"md5:{md5}", filename, folder, downloader=_Stream(limits, progress))
            return Path(file), urlsplit(url).netloc
        except (HostFailed, ValueError) as failure:  # a ValueError of pooch's is a wrong checksum
            failures.append(f"{url}: {failure}")
            if progress:
                print(f"Given up: {failures[-1]}", file=sys.stderr)
    raise DataError("\n".join([f"{filename} could not be downloaded", *failures]))


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Hold back a logger's information lines: they would name a temporary file, in the midst of the progress bar."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Stream:
    """A downloader for pooch that keeps :class:`Limits`.

    pooch's own waits for a full block of bytes, and would wait for hours where a host sends one byte now and then.
    """

    def __init__(self, limits: Limits, progress: bool) -> None:
        self.limits = limits
        self.progress = progress

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        try:
            with self._answer(url) as response, open(output_file, "wb") as file:
                if response.status_code != 200:
                    raise HostFailed(f"answered {response.status_code} {response.reason}")
                for block in self._blocks(response, f"{Path(urlsplit(url).path).name} from {urlsplit(url).netloc}"):
                    file.write(block)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise HostFailed(self._reason(error)) from error

    def _answer(self, url: str) -> requests.Response:
        # In a thread of its own, because neither the look-up of a name nor the sum of all attempts to connect to a
        # host's several addresses can be limited otherwise.
        outcome: queue.SimpleQueue = queue.SimpleQueue()

        def ask() -> None:
            timeout = (self.limits.answer, self.limits.silence)
            try:
                outcome.put(requests.get(url, stream=True, timeout=timeout, headers={"Accept-Encoding": "identity"}))
            except Exception as error:
                outcome.put(error)

        threading.Thread(target=ask, daemon=True).start()
        try:
            answer = outcome.get(timeout=self.limits.answer)
        except queue.Empty:
            raise HostFailed(f"no answer within {self.limits.answer:g} s") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _blocks(self, response: requests.Response, title: str) -> Iterator[bytes]:
        limits = self.limits
        size = int(response.headers.get("Content-Length", 0)) or None
        with tqdm(total=size, unit="B", unit_scale=True, desc=title, disable=not self.progress, miniters=1) as bar:
            since, received = time.monotonic(), 0
            # read1 returns what has come, where read would wait for the whole block.
            while block := response.raw.read1(2**16):
                yield block
                bar.update(len(block))
                received += len(block)
                elapsed = time.monotonic() - since
                if elapsed >= limits.window:
                    if received < limits.rate * elapsed:
                        raise HostFailed(f"slower than {limits.rate / 1e3:g} kB/s over {limits.window:g} s")
                    since, received = time.monotonic(), 0

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, urllib3.exceptions.ProtocolError):
            return "broke off before the end"
        while deeper := error.__cause__ or error.__context__:
            error = deeper
        if isinstance(error, TimeoutError):
            return f"sent nothing for {self.limits.silence:g} s"
        return f"cannot be reached ({getattr(error, 'strerror', None) or error})"
