"""The site of these pages: ``make docs`` writes it to docs/_build/html.

The root of the repository is the source folder, so that README.md, docs and
the READMEs of configs are pages as they lie there, with the same links.
"""
from pathlib import Path

import mmkdna

project = 'mmkdna'
author = 'The mmkdna authors'
release = mmkdna.__version__

extensions = [
    'myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.mathjax',
    'sphinx.ext.napoleon'
]
root_doc = 'docs/index'
include_patterns = [
    '*.md', 'docs/*.md', 'docs/results/README.md', 'docs/results/*/README.md',
    'configs/*/README.md'
]
exclude_patterns = ['.*', 'work_dirs', 'data', 'build', 'mmkdna', 'tests']

# Of headings in Markdown, as code hosts make them.
myst_heading_anchors = 3
# Attributes would be described a second time beside the properties they are.
napoleon_use_ivar = True

html_theme = 'furo'
html_title = f'mmkdna {release}'
html_copy_source = False


def write_front_page(app, error):
    """Lead from the root of the site to its first page."""
    page = f'{root_doc}.html'
    if error is None and app.builder.name == 'html':
        Path(app.outdir, 'index.html').write_text(
            f'<meta http-equiv="refresh" content="0; url={page}">'
            f'<a href="{page}">{project}</a>\n')


def setup(app):
    """Have Sphinx call the above."""
    app.connect('build-finished', write_front_page)
