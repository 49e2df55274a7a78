"""The folder of data sets that the user names; the laboratory ships none and fetches none."""

import argparse
import csv
import os
from pathlib import Path


VARIABLE = "OTMERGE_DATA"


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--data FOLDER`."""
    parser.add_argument("--data", type=Path, help=f"folder of the data sets (default: what {VARIABLE} names)")


def data_folder(given: Path | None = None) -> Path:
    """Folder of the data sets: the one given, or the environment's.

    Raises:
        FileNotFoundError: If none is named, or it does not exist.
    """
    named = given or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is None or not named.is_dir():
        raise FileNotFoundError(f"No data sets at {named}: name their folder with --data or {VARIABLE}.")
    return named


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
