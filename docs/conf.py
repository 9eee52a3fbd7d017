"""How Sphinx makes the pages: ``sphinx-build -W docs build/site``."""

from zdce import __version__

project = "zdce"
author = "the zdce authors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"zdce {__version__}"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
