"""The site builds without a warning, needs nothing from elsewhere, and leads where people want to go."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from pages import DOCS, ROOT


pytestmark = pytest.mark.slow
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
RELATIONS = {"stylesheet", "preload", "prefetch", "preconnect", "icon", "modulepreload"}  # of a <link> that is fetched


class Page(HTMLParser):
    """Ids, links, links of the text alone (not of menus), and what a browser fetches."""

    def __init__(self, html):
        super().__init__()
        self.ids, self.links, self.in_text, self.fetched, self.depth = set(), [], [], [], 0
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.depth += tag == "article"
        if "id" in found:
            self.ids.add(found["id"])
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
            if self.depth:
                self.in_text.append(found["href"])
        is_fetched = tag != "link" or RELATIONS & set((found.get("rel") or "").split())
        if tag in FETCHED and is_fetched and found.get(FETCHED[tag]):
            self.fetched.append(found[FETCHED[tag]])

    def handle_endtag(self, tag):
        self.depth -= tag == "article"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | proxies | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def follow(page, link):
    """The file that a link leads to, and its anchor; None for one that leads elsewhere."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    return ((page.parent / unquote(parts.path)).resolve() if parts.path else page), unquote(parts.fragment)


def test_links_resolve(site, pages):
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":  # it is shown at any address, and so its links begin at the root
            continue
        for link in page.links + page.fetched:
            target = follow(path, link)
            if target is None:
                continue
            file, anchor = target
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file() or (anchor and file in pages and anchor not in pages[file].ids | {"__skip"}):
                broken.append((str(path.relative_to(site)), link))
    assert broken == []


def test_nothing_is_fetched_from_elsewhere(site, pages):
    outside = [(path.name, link) for path, page in pages.items() for link in page.fetched if urlsplit(link).netloc]
    assert outside == []
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text().replace('"', "").replace("'", "")


def test_training_on_own_data_is_two_clicks_away(site, pages):
    """By links of the text, without the menu: the command, on the page itself."""
    reached = {site / "index.html"}
    for _ in range(2):
        reached |= {
            target[0]
            for page in reached
            for link in pages[page].in_text
            if (target := follow(page, link)) and target[0] in pages
        }
    texts = {path: path.read_text() for path in reached}
    assert any("otmerge train --data" in text and "image,question,answer" in text for text in texts.values())
    assert site / "questions.html" in reached


def test_every_public_name_has_its_reference(pages):
    sys.path.insert(0, str(DOCS))
    try:
        import hooks
    finally:
        sys.path.remove(str(DOCS))
    ids = {name for page in pages.values() for name in page.ids}
    assert len(hooks.HOMES) > 150
    assert [home for home in hooks.HOMES.values() if home not in ids] == []
    assert set(hooks.ROOMS) == {path.parent.name for path in (ROOT / "src/otmerge_hf").glob("*/__init__.py")} - {
        "commands"
    }


def test_formulas_are_drawn_without_scripts(site):
    theory = (site / "theory.html").read_text()
    assert theory.count("<math") > 100
    texts = {path.name: path.read_text() for path in site.rglob("*.html")}
    assert [name for name, text in texts.items() if "arithmatex" in text or "<mi>\\" in text] == []
    assert "$" not in theory[theory.index("<article") : theory.index("</article")]


def test_every_table_of_results_is_linked():
    page = (DOCS / "results.md").read_text()
    for table in (ROOT / "benchmarks" / "results").rglob("*.md"):
        assert f"(../{table.relative_to(ROOT)})" in page
