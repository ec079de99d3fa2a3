"""The files that the package draws (palette, logo, favicon) and the settings that follow the repository's address."""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

from cnnbook.notebooks import Repository
from cnnlib.explore import logo, style


def draw(app: Sphinx, config: Config) -> None:
    """Write the drawn files into the build folder and name them in the configuration."""
    folder = Path(app.doctreedir, "drawn")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "cnnlib.css": style.css() + style.components_css(),
        "logo-light.svg": logo.logo_svg(),
        "logo-dark.svg": logo.logo_svg(dark=True),
        "favicon.svg": logo.favicon_svg(),
    }
    for name, text in drawn.items():
        (folder / name).write_text(text, encoding="utf-8")
    config.html_static_path.append(str(folder))
    config.html_css_files.insert(0, "cnnlib.css")
    config.html_favicon = str(folder / "favicon.svg")
    config.html_theme_options["logo"] = {
        "image_light": str(folder / "logo-light.svg"),
        "image_dark": str(folder / "logo-dark.svg"),
        "alt_text": "",
        "text": config.html_title,
    }


def set_up_theme(app: Sphinx, config: Config) -> None:
    """Derive the address of the pages from the repository's, and start in the reader's own theme."""
    config.html_context["default_mode"] = "auto"
    config.html_theme_options["navbar_persistent"] = []  # the sidebar has the search field
    pages = Repository(config.html_theme_options["repository_url"]).pages
    config.html_baseurl = config.ogp_site_url = pages


def setup(app: Sphinx) -> None:
    app.connect("config-inited", draw)
    app.connect("config-inited", set_up_theme)
