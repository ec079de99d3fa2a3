"""Two tiny data sets in CIFAR's format, and a server on 127.0.0.1 that has every fault a host can have."""

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

import cnnlib
from cnnlib.data import cifar

PER_FILE = 20


@dataclass
class TinyCifar:
    """Files, their archive, and what replaces the attributes of torchvision's class."""

    files: dict[str, bytes]
    archive: bytes
    attributes: dict[str, object]

    def unpack(self, root: Path) -> Path:
        for name, content in self.files.items():
            path = root / self.attributes["base_folder"] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return root


def tiny_cifar(name: str, classes: int, label_key: str) -> TinyCifar:
    """A data set with the file names of the real one and 20 images a file."""
    real = cifar._SOURCES[name].reader
    random = np.random.default_rng(classes)

    def batch() -> bytes:
        labels = [int(label) for label in np.arange(PER_FILE) % classes]
        return pickle.dumps({"data": random.integers(0, 256, (PER_FILE, 3072), dtype=np.uint8), label_key: labels})

    files = {name: batch() for name, _ in real.train_list + real.test_list}
    files[real.meta["filename"]] = pickle.dumps({real.meta["key"]: [f"class {k}" for k in range(classes)]})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in {**files, "readme.html": b"not needed"}.items():
            entry = tarfile.TarInfo(f"{real.base_folder}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    attributes = {
        "base_folder": real.base_folder,
        "filename": real.filename,
        "tgz_md5": hashlib.md5(buffer.getvalue()).hexdigest(),
        "train_list": [[name, md5[name]] for name, _ in real.train_list],
        "test_list": [[name, md5[name]] for name, _ in real.test_list],
        "meta": {**real.meta, "md5": md5[real.meta["filename"]]},
    }
    return TinyCifar(files, buffer.getvalue(), attributes)


@dataclass
class Server:
    """Serves ``content`` at every path; the first part of the path names the fault."""

    content: bytes = field(repr=False)
    requests: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    half_sent: threading.Event = field(default_factory=threading.Event)
    together: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=180))

    def __post_init__(self):
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def url(self, fault: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{fault}"

    def close(self):
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()

    def _handler(server):
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                server.requests.append(self.path)
                # The client goes away in the middle of an answer: that is what most of the tests are about.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    getattr(self, self.path.split("/")[1])()

            def head(self, status=200, **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), str(value))
                self.end_headers()

            def body(self, content):
                self.head(Content_Length=len(server.content))
                self.wfile.write(content)

            def good(self):
                self.body(server.content)

            def unsized(self):
                self.head()
                self.wfile.write(server.content)

            def chunked(self):
                self.head(Transfer_Encoding="chunked")
                for start in range(0, len(server.content), 50_000):
                    chunk = server.content[start : start + 50_000]
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                self.wfile.write(b"0\r\n\r\n")

            def labelled_gzip(self):
                self.head(Content_Length=len(server.content), Content_Encoding="gzip")
                self.wfile.write(server.content)

            def together(self):
                server.together.wait()
                self.good()

            def mute(self):
                server.closing.wait(120)

            def stalled(self):
                self.body(server.content[: len(server.content) // 2])
                self.wfile.flush()
                server.half_sent.set()
                server.closing.wait(120)

            def compressing(self):
                if "gzip" in self.headers.get("Accept-Encoding", ""):
                    packed = gzip.compress(server.content)
                    self.head(Content_Length=len(packed), Content_Encoding="gzip")
                    self.wfile.write(packed)
                else:
                    self.good()

            def dripping(self, bytes_at_a_time=1, pause=0.05, at_once=0):
                self.head(Content_Length=len(server.content))
                self.wfile.write(server.content[:at_once])
                for start in range(at_once, len(server.content), bytes_at_a_time):
                    self.wfile.write(server.content[start : start + bytes_at_a_time])
                    if server.closing.wait(pause):
                        break

            def slow(self):
                self.dripping(bytes_at_a_time=len(server.content) // 10 + 1, pause=0.15)

            def tiring(self):
                rest = len(server.content) // 10
                self.dripping(bytes_at_a_time=rest // 20 + 1, pause=0.15, at_once=len(server.content) - rest)

            def truncated(self):
                self.body(server.content[:-100])

            def corrupt(self):
                self.body(server.content[:-1] + bytes([server.content[-1] ^ 1]))

            def redirecting(self):
                self.head(302, Location=self.path.replace("redirecting", "good"))

            def circular(self):
                self.head(302, Location=self.path)

            def missing(self):
                self.send_error(404)

            def broken(self):
                self.send_error(500)

        return Handler


@pytest.fixture(scope="session")
def tiny_sets() -> dict[str, TinyCifar]:
    return {"cifar10": tiny_cifar("cifar10", 10, "labels"), "cifar100": tiny_cifar("cifar100", 100, "fine_labels")}


@pytest.fixture
def host(tiny_sets):
    server = Server(tiny_sets["cifar10"].archive)
    yield server
    server.close()


@pytest.fixture
def refusing() -> str:
    """The address of a port on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache folder that does not exist yet, and an environment without settings."""
    for name in list(os.environ):
        if name.startswith("CNNLIB_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    folder = tmp_path / "cache"
    monkeypatch.setenv("CNNLIB_CACHE", str(folder))
    return folder


@pytest.fixture
def tiny(tiny_sets, cache, refusing, monkeypatch) -> dict[str, TinyCifar]:
    """Both CIFAR sets replaced by tiny ones, whose original host refuses; no mirrors but CNNLIB_MIRRORS."""
    for name, tiny_set in tiny_sets.items():
        source = cifar._SOURCES[name]
        tiny_set.attributes["url"] = f"{refusing}/{source.reader.filename}"
        for attribute, value in tiny_set.attributes.items():
            monkeypatch.setattr(source.reader, attribute, value)
        monkeypatch.setitem(cifar._SOURCES, name, replace(source, mirrors=()))
    return tiny_sets


@pytest.fixture
def start(tiny, tmp_path):
    """Start Python code in another process that sees the tiny sets; returns the process."""
    prelude = """
import json, signal, sys
from dataclasses import replace
from cnnlib.data import cifar, fetch, load
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell has put into the background
for name, attributes in json.load(open(sys.argv[1])).items():
    for attribute, value in attributes.items():
        setattr(cifar._SOURCES[name].reader, attribute, value)
    cifar._SOURCES[name] = replace(cifar._SOURCES[name], mirrors=())
"""
    attributes = tmp_path / "attributes.json"
    attributes.write_text(json.dumps({name: tiny_set.attributes for name, tiny_set in tiny.items()}))
    package = str(Path(cnnlib.__file__).parents[1])

    def start(code: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", prelude + code, str(attributes)],
            env={**os.environ, "PYTHONPATH": package},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
