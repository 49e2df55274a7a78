"""The one progress bar."""

from typing import Any

from tqdm.auto import tqdm


def progress_bar(total: int, done: int = 0, shown: bool = True) -> Any:
    """A bar over cells: `set_description` says which runs, `set_postfix_str` how far it is, `write` prints above."""
    return tqdm(total=total, initial=done, unit="cell", disable=not shown)
