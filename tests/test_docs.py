"""The pages: their links, the commands they name, and the site of them."""
import ast
import os.path as osp
import re
import sys

import pytest

import mmkdna
from tests.runs import ROOT, run

PAGES = [
    *sorted(ROOT.glob('*.md')), *sorted(ROOT.glob('docs/*.md')),
    *sorted(ROOT.glob('configs/*/README.md'))
]
# What starts a block of code, and what is in it.
CODE = re.compile(r'^```\{?([\w-]*)\}?.*?\n(.*?)^```$',
                  re.DOTALL | re.MULTILINE)
LINK = re.compile(r'\]\(([^)\s]+)\)')
HEADING = re.compile(r'^#+ (.*)$', re.MULTILINE)


def of_page(path):
    """The name of a test."""
    return path.relative_to(ROOT).as_posix()


def anchors(text):
    """Where a link into a page may lead, as code hosts name it."""
    return {
        re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
        for heading in HEADING.findall(CODE.sub('', text))
    }


def broken_links(path, text):
    """The relative links of a page that lead nowhere."""
    broken = []
    for link in LINK.findall(CODE.sub('', text)):
        if '://' in link:
            continue
        name, _, anchor = link.partition('#')
        target = path.parent / name if name else path
        # A folder has no page in the site.
        if not target.is_file() or (anchor and anchor not in anchors(
                target.read_text())):
            broken.append(link)
    return broken


def commands(text):
    """The lines of a page's shell blocks, continued ones as one."""
    for language, block in CODE.findall(text):
        if language in ('bash', 'shell'):
            yield from block.replace('\\\n', ' ').splitlines()


def missing(text):
    """What a page names and the repository does not have."""
    named = re.findall(r'(?<![\w./])((?:tools|configs)/[\w./-]+\.(?:py|sh))',
                       text)
    absent = [name for name in named if not (ROOT / name).is_file()]
    makefile = (ROOT / 'Makefile').read_text()
    for target in re.findall(r'`make ([\w-]+)`|^make ([\w-]+)', text,
                             re.MULTILINE):
        if not re.search(f'^{"".join(target)}:', makefile, re.MULTILINE):
            absent.append(f'make {"".join(target)}')
    shared = (ROOT / 'mmkdna' / 'launch' / 'arguments.py').read_text()
    for command in commands(text):
        tool = re.search(r'tools/[\w/]+\.py', command)
        if not tool or not (ROOT / tool[0]).is_file():
            continue
        known = (ROOT / tool[0]).read_text() + shared
        absent += [
            f'{tool[0]} {flag}' for flag in re.findall(r' (--[\w-]+)', command)
            if f"'{flag}'" not in known
        ]
    return absent


@pytest.mark.parametrize('path', PAGES, ids=of_page)
def test_links_lead_somewhere(path):
    assert broken_links(path, path.read_text()) == []


@pytest.mark.parametrize('path', PAGES, ids=of_page)
def test_what_a_page_names_is_there(path):
    # The changelog names what is gone.
    if path.name != 'CHANGELOG.md':
        assert missing(path.read_text()) == []


@pytest.mark.parametrize('path', PAGES, ids=of_page)
def test_code_is_python(path):
    for language, block in CODE.findall(path.read_text()):
        if language == 'python':
            ast.parse(block)


def test_a_broken_page_is_seen():
    page = ROOT / 'docs' / 'zoo.md'
    assert broken_links(page,
                        '[a](none.md) [b](#nowhere) [c](../configs)') == [
                            'none.md', '#nowhere', '../configs'
                        ]
    assert broken_links(
        page, '# A B\n[a](options.md) [b](zoo.md#detection)\n'
        '```bash\n[c](in code)\n```\n') == []
    assert missing(
        '`make nothing`, tools/none.py\n'
        '```bash\npython tools/train.py x.py --amp --none\n```\n') == [
            'tools/none.py', 'make nothing', 'tools/train.py --none'
        ]


def test_the_api_has_all_that_the_package_shows():
    text = (ROOT / 'docs' / 'api.md').read_text()
    assert [name for name in mmkdna.__all__
            if f'mmkdna.{name}' not in text] == []


def test_the_site_builds(tmp_path):
    for name in ('furo', 'myst_parser', 'sphinx'):
        pytest.importorskip(name)
    site = tmp_path / 'html'
    run(sys.executable,
        '-m',
        'sphinx',
        '-q',
        '-W',
        '--keep-going',
        '-c',
        ROOT / 'docs',
        '-d',
        tmp_path / 'doctrees',
        ROOT,
        site,
        cwd=tmp_path)
    for path in PAGES:
        page = site / osp.splitext(of_page(path))[0]
        assert page.with_suffix('.html').is_file()
    front = (site / 'index.html').read_text()
    assert (site / re.search('url=([^"]+)', front)[1]).is_file()


def test_the_result_table_of_the_readme_is_what_was_measured():
    section = (ROOT / 'README.md').read_text().partition('## Does it pay?')[2]
    section = section.partition('\n## ')[0]
    folder = re.search(r'\((docs/results/[\w-]+)/comparison.svg\)', section)[1]
    table = (ROOT / folder / 'README.md').read_text().splitlines()
    rows = [line for line in section.splitlines() if line.startswith('|')]
    assert len(rows) > 4
    assert set(rows) <= set(table)
