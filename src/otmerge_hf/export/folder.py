"""What every export checks before it works."""

import os
from pathlib import Path


def new_folder(directory: str | os.PathLike) -> Path:
    """Take a folder that is new or empty: its files would be mixed with an export's, or replaced.

    Raises:
        ValueError: If it is a file, or holds something.
    """
    folder = Path(directory)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"`directory` {str(folder)!r} is there and not empty; expected a new or an empty folder.")
    return folder
