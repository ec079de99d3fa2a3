"""The Sphinx extension of this book: mended pages, drawn assets, facts of chapters, claims, models, costs, API."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    for part in ("mend", "assets", "chapters", "claims", "atlas", "costs", "api"):
        app.setup_extension(f"{__name__}.{part}")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
