"""Sphinx: ``make docs``."""

from importlib.metadata import version as version_of

project = "pexen"
author = "The pexen authors"
copyright = "2026, The pexen authors"  # noqa: A001 - Sphinx's name
version = release = version_of("pexen")

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "pexen"
myst_heading_anchors = 3
nitpicky = True
# The pages show shell, console and TOML beside Python; none of it is Python without saying so.
highlight_language = "text"
