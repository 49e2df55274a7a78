"""Text, tables and pictures -> one HTML page that needs nothing beside itself; whatever comes in is escaped here."""

import base64
import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..hub.facts import Table


_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1, h2 { line-height: 1.25; margin: 2rem 0 .5rem; }
h1 { margin-top: .5rem; }
a { color: #0b4f9e; }
a:focus-visible, .scroll:focus-visible { outline: 3px solid #0b4f9e; outline-offset: 2px; }
.skip { position: absolute; left: -100vw; background: #fff; padding: .5rem; }
.skip:focus { left: 1rem; }
figure { margin: 1rem 0; }
img { display: block; max-width: 100%; height: auto; border: 1px solid #767676; }
figcaption, caption { text-align: left; padding: .5rem 0; font-weight: 600; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid #767676; padding: .25rem .5rem; text-align: left; vertical-align: top; }
.number { text-align: right; }
thead th { background: #eee; }
caption span { display: inline-block; max-width: calc(100vw - 3.5rem); }
code { background: #eee; padding: 0 .2em; }
"""
# No script, no address: the browser itself refuses what an escape might have let through.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Picture:
    """A PNG, what it shows in words and numbers for those who do not see it, and its caption."""

    name: str
    png: bytes
    alt: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading, and what stands under it: text, lists of lines, tables and pictures, in order."""

    title: str
    parts: tuple["str | list[str] | Table | Picture", ...]


def make_page(title: str, lead: str, sections: Iterable[Section]) -> str:
    """HTML of a page: a heading, a list of its sections, and each section.

    Example:
        >>> "<p>1 &lt; 2, <code>x</code></p>" in make_page("A page", "", [Section("One", ("1 < 2, `x`",))])
        True
    """
    listed, body = [], []
    for number, section in enumerate(sections, 1):
        name = f"part-{number}"
        listed.append(f'<li><a href="#{name}">{_text(section.title)}</a></li>')
        body += [f'<h2 id="{name}">{_text(section.title)}</h2>', *map(_part, section.parts)]
    contents, main = "\n".join(listed), "\n".join(body)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_plain(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<h1>{_text(title)}</h1>
<p>{_text(lead)}</p>
</header>
<nav aria-label="Sections">
<ol>
{contents}
</ol>
</nav>
<main id="content" tabindex="-1">
{main}
</main>
</body>
</html>
"""


def _text(text: str) -> str:
    """Escaped, with what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _plain(text: str) -> str:
    """Escaped for an attribute, without the marks of code."""
    return html.escape(text.replace("`", ""))


def _part(part: str | list[str] | Table | Picture) -> str:
    if isinstance(part, str):
        return f"<p>{_text(part)}</p>"
    if isinstance(part, list):
        return "\n".join(["<ul>", *(f"<li>{_text(line)}</li>" for line in part), "</ul>"])
    if isinstance(part, Picture):
        data = base64.b64encode(part.png).decode()
        width, height = (int.from_bytes(part.png[start : start + 4], "big") for start in (16, 20))
        size = f'width="{width}" height="{height}"'  # the place is kept while the page loads
        image = f'<img src="data:image/png;base64,{data}" alt="{_plain(part.alt)}" {size}>'
        return f"<figure>\n{image}\n<figcaption>{_text(part.caption)}</figcaption>\n</figure>"
    return _table(part)


def _table(table: Table) -> str:
    """A table that scrolls by itself where it is wider than the screen, by keyboard too."""
    head = "".join(f'<th scope="col">{_text(cell)}</th>' if cell else "<td></td>" for cell in table.head)
    lines = [f'<div class="scroll" role="group" tabindex="0" aria-label="{_plain(table.title)}">', "<table>"]
    lines += [f"<caption><span>{_text(table.title)}</span></caption>", f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for first, *cells in table.rows:
        row = "".join(_cell(cell) for cell in cells)
        lines.append(f'<tr><th scope="row">{_text(first)}</th>{row}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>", "</div>"])


def _cell(cell: str) -> str:
    kind = ' class="number"' if cell[:1].isdigit() or cell[1:2].isdigit() else ""
    return f"<td{kind}>{_text(cell)}</td>"
