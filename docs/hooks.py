"""What the site adds to docs/: sections and files from elsewhere in the repository, references, formulas.

`mkdocs.yml` names it. Nothing is copied by hand: a page writes `<!-- include: README.md#Install -->` for what stands
under that heading, and links to other files of the repository as it would on any host of code.
"""

import ast
import posixpath
import re
from pathlib import Path

from griffe import Extension
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, InclusionLevel


ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "otmerge_hf"
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py") if path.parent.name != "commands")
# Modules that no `__init__` exports and that pages name all the same.
MODULES = {"model": ["adapters", "fusers"]}
INCLUDE = re.compile(r"<!-- include: (?P<file>[^#\n]+)#(?P<heading>.+?) -->")
LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")
SHOWN = {".md", ".png"}  # other files are named, and not published
_files: set[str] = set()  # of the repository, outside docs/, that are pages or pictures of the site


class ExampleSections(Extension):
    """Read `Example:` as Google's `Examples:`, whose `>>>` lines are code."""

    def on_instance(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)


def public_names(folder: Path) -> list[str]:
    """What a folder's `__init__` exports, without importing it."""
    tree = ast.parse((folder / "__init__.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    imported = [name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names]
    return [name.asname for name in imported if name.asname]


def shadowed(package: str, names: list[str]) -> set[str]:
    """Names that a module of the package has too, and that are looked up inside that module."""
    folder = ROOT / "src" / package.replace(".", "/")
    return {name for name in names if (folder / f"{name}.py").is_file()}


# Package -> what it exports, and each public name -> where its reference stands.
PACKAGES = {"otmerge_hf": public_names(PACKAGE)}
PACKAGES |= {f"otmerge_hf.{room}": public_names(PACKAGE / room) for room in ROOMS if room not in MODULES}
HOMES = {
    name: f"{package}.{name}.{name}" if name in shadowed(package, names) else f"{package}.{name}"
    for package, names in PACKAGES.items()
    for name in names
}


def section(file: str, heading: str) -> str:
    """What stands under a heading of a file, up to the next one of its level or above; the text before any for "".

    Raises:
        PluginError: If there is no such heading.
    """
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    level, kept, fenced = 0, [], False
    for line in lines:
        fenced ^= line.startswith("```")
        found = None if fenced else re.match(r"(#+) (.*)", line)
        if found and level and len(found[1]) <= level:
            break
        if level:
            kept.append(line)
        elif found and found[2] == heading:
            level = len(found[1])
    if not level:
        raise PluginError(f"include: {file} has no heading {heading!r}.")
    return "\n".join(kept).strip()


def relink(text: str, folder: str, page: str) -> str:
    """Let links of a text that lies in `folder` of the repository lead on from a page of the site."""

    def replace(found: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(folder, found["target"]))
        if target.startswith("docs/"):
            target = target.removeprefix("docs/")
        elif target not in _files:
            return "\0"  # nothing of the site: the words stay, the link goes
        return posixpath.relpath(target, posixpath.dirname(page)) + (found["anchor"] or "")

    return re.sub(r"\[([^\[\]]*)\]\(\0\)", r"\1", LINK.sub(replace, text))


def outside(text: str, folder: str) -> set[str]:
    """Files of the repository outside docs/ that a text links to, and those that these link to."""
    found = {posixpath.normpath(posixpath.join(folder, link["target"])) for link in LINK.finditer(text)}
    new = {name for name in found if not name.startswith(("docs/", "..")) and Path(name).suffix in SHOWN} - _files
    new = {name for name in new if (ROOT / name).is_file()}
    _files.update(new)
    for name in new:
        if name.endswith(".md"):
            outside((ROOT / name).read_text(encoding="utf-8"), posixpath.dirname(name))
    return _files


def on_files(files, config):
    """Add a page of reference for every room, and the files that pages link to."""
    _files.clear()
    for page in files.documentation_pages():
        text = Path(page.abs_src_path).read_text(encoding="utf-8")
        outside(text, posixpath.join("docs", posixpath.dirname(page.src_uri)))
        for found in INCLUDE.finditer(text):
            outside(section(found["file"], found["heading"]), posixpath.dirname(found["file"]))
    for name in sorted(_files):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name), inclusion=InclusionLevel.NOT_IN_NAV))
    for name in [*PACKAGES, *(f"otmerge_hf.{room}.{name}" for room, names in MODULES.items() for name in names)]:
        text, page = f"# `{name}`\n\n::: {name}\n", name.removeprefix("otmerge_hf.")
        if name in PACKAGES:
            apart = shadowed(name, PACKAGES[name])
            text += f"    options:\n      members: {sorted(set(PACKAGES[name]) - apart)}\n"
            for member in sorted(apart):
                text += f"\n::: {HOMES[member]}\n    options: {{show_root_heading: true, heading_level: 2}}\n"
        files.append(File.generated(config, f"reference/{page}.md", content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Put in what is included, and turn links to other files of the repository into links of the site."""
    source = page.file.src_uri
    folder = posixpath.dirname(source if source in _files else posixpath.join("docs", source))
    if not source.startswith("reference/"):
        markdown = relink(markdown, folder, source)
    return INCLUDE.sub(
        lambda found: relink(section(found["file"], found["heading"]), posixpath.dirname(found["file"]), source),
        markdown,
    )


def on_page_content(html, page, config, files):
    """Formulas as MathML, which browsers draw by themselves; names in brackets, as docstrings have them, as links."""
    html = re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', _formula, html, flags=re.DOTALL)
    return re.sub(r"\[<code>([\w.]+)</code>\]", _reference, html)


def _formula(found: re.Match) -> str:
    display = found[1] == "div"
    source = found[2].strip()[2:-2].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    source = source.replace(r"\arg", r"\operatorname{arg}")  # which the converter does not know
    return convert(source, display="block" if display else "inline")


def _reference(found: re.Match) -> str:
    name, *rest = [part for part in found[1].split(".") if part not in ROOMS]
    code = f"<code>{found[1]}</code>"
    if name not in HOMES:
        return code
    return f'<autoref identifier="{".".join([HOMES[name], *rest])}" optional>{code}</autoref>'
