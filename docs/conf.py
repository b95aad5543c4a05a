"""The documentation site: `make docs` builds it, and every warning is an error."""

from importlib.metadata import version as installed_version

project = "CLV Streams"
project_copyright = "the authors of CLV Streams, MIT licence"
author = "the authors of CLV Streams"
release = version = installed_version("clv-streams")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

# Anchors of headings are GitHub's, so that links work there and here.
myst_heading_anchors = 4
myst_links_external_new_tab = True
# A command in an indented block is not a program in Python.
highlight_language = "none"

html_theme = "furo"
html_title = f"{project} {release}"
# Nothing is loaded from elsewhere: the site can be read offline.
html_copy_source = False
html_show_sourcelink = False
