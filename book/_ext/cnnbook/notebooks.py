"""What the book knows of its notebooks: the repository's address, the set-up cell, the hash of the sources."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[3]
SET_UP = "set-up"
"""The id of the cell that installs cnnlib on Colab."""

SET_UP_SOURCE = """\
# Where cnnlib is missing, as on Colab, this installs it and the small packages missing with it, nothing else.
from importlib.util import find_spec

if not find_spec("cnnlib"):
    missing = " ".join(name for name in ("torchinfo", "pooch", "platformdirs") if not find_spec(name))
    %pip install --quiet --no-deps {archive} {{missing}}"""


@dataclass(frozen=True)
class Repository:
    """The address that the buttons, the first cells and the Open Graph tags follow."""

    url: str
    branch: str = "main"

    @classmethod
    def configured(cls) -> Repository:
        """Read the one setting in ``_config.yml``."""
        settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
        return cls(**settings | {"url": settings["url"].rstrip("/")})

    @property
    def slug(self) -> str:
        """``owner/name``."""
        return urlsplit(self.url).path.strip("/")

    @property
    def pages(self) -> str:
        """Where GitHub Pages serves the book."""
        owner, name = self.slug.split("/")
        return f"https://{owner}.github.io/{name}/"

    @property
    def archive(self) -> str:
        """The zip that pip installs."""
        return f"{self.url.rstrip('/')}/archive/refs/heads/{self.branch}.zip"

    def colab(self, path: str) -> str:
        """The address that opens the notebook at ``path`` on Colab."""
        return f"https://colab.research.google.com/github/{self.slug}/blob/{self.branch}/{path}"

    def set_up_source(self) -> str:
        """The source of every notebook's set-up cell."""
        return SET_UP_SOURCE.format(archive=self.archive)


def paths() -> list[Path]:
    """All notebooks of the book, in order."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def write(path: Path, notebook: nbformat.NotebookNode) -> None:
    """Replace the file in one step, so that an interruption never leaves half a notebook."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def set_up_cell(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    return next((cell for cell in notebook.cells if cell.get("id") == SET_UP), None)


def put_set_up_cell(notebook: nbformat.NotebookNode, repository: Repository) -> None:
    """Write the set-up cell, below the title. It is not on the page."""
    cell = set_up_cell(notebook)
    if cell is None:
        cell = nbformat.v4.new_code_cell(id=SET_UP)
        notebook.cells.insert(1, cell)
    cell.source = repository.set_up_source()
    cell.metadata["tags"] = ["remove-cell"]


def source_hash(notebook: nbformat.NotebookNode) -> str:
    """SHA-256 of the code that made the outputs. Text and the set-up cell may change without a new run."""
    digest = hashlib.sha256()
    for cell in code_cells(notebook):
        if cell.get("id") != SET_UP:
            digest.update(cell.source.encode() + b"\0")
    return digest.hexdigest()
