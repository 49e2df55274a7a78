"""A folder of results -> its table and plots, and the table inside a document."""

from pathlib import Path

from ..features.shards import write_atomically
from .cell import read_results
from .plots import draw
from .summary import groups
from .table import markdown


def write_report(folder: Path, document: Path | None = None) -> list[Path]:
    """Make `table.md` and the PNGs of a folder of results from its JSON alone.

    Args:
        folder: Holds `cells/*.json`.
        document: A Markdown file with the lines `<!-- NAME -->` and `<!-- /NAME -->`, NAME the folder's; what is
            between them is replaced by the table.

    Returns:
        The files written.

    Raises:
        ValueError: If there are no results, or the document lacks the two lines.
    """
    results = read_results(folder)
    if not results:
        raise ValueError(f"{folder} holds no results; run `otmerge benchmark` first.")
    table = markdown(results)
    written = [folder / "table.md"]
    write_atomically(written[0], f"# {folder.name}\n\n{table}".encode())
    everything = groups(results)
    if everything:
        written += draw(everything, folder)
    if document is not None:
        write_atomically(document, insert(document.read_text(), folder.name, table).encode())
        written.append(document)
    return written


def insert(text: str, name: str, table: str) -> str:
    r"""Replace what stands between two marks.

    Example:
        >>> insert("a <!-- t -->old<!-- /t --> b", "t", "new")
        'a <!-- t -->\n\nnew\n<!-- /t --> b'

    Raises:
        ValueError: If a mark is missing.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"The document lacks the marks {start} and {end}, between which the table goes.")
    return f"{before}{start}\n\n{table}\n{end}{after}"
