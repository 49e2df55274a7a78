"""A folder of finished cells -> its table and plots, and the table inside a document."""

from pathlib import Path

from ..runner.records import Records, write_whole
from ..suites import get_suite


def write_report(folder: Path, document: Path | None = None) -> list[Path]:
    """Make `table.md` and the PNGs of a folder of results from its `cells.jsonl` alone.

    Args:
        folder: Holds the cells of one suite.
        document: A Markdown file with the lines `<!-- NAME -->` and `<!-- /NAME -->`, NAME the folder's; what is
            between them is replaced by the table.

    Returns:
        The files written.

    Raises:
        ValueError: If there are no cells, or the document lacks the two lines.
    """
    records = list(Records(folder / "cells.jsonl").read().values())
    if not records:
        raise ValueError(f"{folder} holds no cells; run `python -m benchmarks run {folder.name}` first.")
    written = get_suite(records[0]["settings"]["suite"]).report(records, folder)
    if document is not None:
        _, _, table = written[0].read_text().partition("\n\n")
        write_whole(document, insert(document.read_text(), folder.name, table))
        written.append(document)
    return written


def write_table(folder: Path, table: str, title: str | None = None) -> Path:
    """Write `table.md`: a title, and the table."""
    path = folder / "table.md"
    write_whole(path, f"# {title or folder.name}\n\n{table}")
    return path


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
