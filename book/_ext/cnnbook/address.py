"""Write the repository's address of ``_config.yml`` wherever a file must spell it out: ``make address``."""

from __future__ import annotations

import re

import yaml

from cnnbook import notebooks
from cnnbook.notebooks import ROOT, Repository

TEXTS = ("README.md", "CITATION.cff", "book/how-to-read.md", ".github/workflows/book.yml")


def main() -> None:
    new = Repository.configured()
    old = Repository(yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["repository-code"])
    for name in TEXTS:
        path = ROOT / name
        text = path.read_text(encoding="utf-8").replace(old.pages, new.pages).replace(old.slug, new.slug)
        text = re.sub(rf"({re.escape(new.slug)}/blob/)[^/]+/", rf"\g<1>{new.branch}/", text)
        text = re.sub(r"(refs/heads/|branches: \[)[\w.-]+", rf"\g<1>{new.branch}", text)
        path.write_text(text, encoding="utf-8")
    for path in notebooks.paths():
        notebook = notebooks.read(path)
        notebooks.put_set_up_cell(notebook, new)
        notebooks.write(path, notebook)
    print(f"{new.url} stands in {', '.join(TEXTS)} and {len(notebooks.paths())} notebooks")


if __name__ == "__main__":
    main()
