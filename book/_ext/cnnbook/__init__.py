"""The Sphinx extension of this book: mended pages, assets, facts of chapters, citations, claims, models, costs, API."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    # Imported here, for `python -m cnnbook.execute` and the others need none of it.
    from cnnbook import api, assets, atlas, chapters, citations, claims, costs, mend

    for part in (mend, assets, chapters, citations, claims, atlas, costs, api):
        part.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
