"""What a folder of features has already: sound shards, and why the stores beside it are not used."""

import logging
from pathlib import Path

from . import shards
from .keys import digest
from .shards import INDEX, Shard, Verify, read_index


logger = logging.getLogger(__name__)

Span = tuple[int, int]


def usable_shards(
    folder: Path, key: dict, rows: int, size: int, verify: Verify
) -> tuple[list[Span], dict[Span, Shard]]:
    """The row ranges of the store's shards, and the shards that are there and sound."""
    spans = [(first, min(first + size, rows)) for first in range(0, rows, size)]
    problems: dict[str, str] = {}
    try:
        index = read_index(folder)
        if index["key"] != key or index["rows"] != rows:
            raise ValueError(f"{folder / INDEX} belongs to another key")
        found = index["shards"]
        spans = [(shard.first, shard.last) for shard in found]
        problems = {s.file: problem for s in found if (problem := shards.shard_problem(folder, s, verify))}
    except (FileNotFoundError, ValueError) as error:
        if isinstance(error, ValueError):
            logger.warning("%s; rebuilt from the shards that are sound", error)
            (folder / INDEX).unlink(missing_ok=True)
        found, problems = shards.find_shards(folder, digest(key))
        others = [shard.file for shard in found if (shard.first, shard.last) not in spans]
        problems |= dict.fromkeys(others, f"does not hold {size} rows as asked for")
    for file, problem in problems.items():
        logger.warning("%s %s; its rows are computed again", folder / file, problem)
        (folder / file).unlink(missing_ok=True)
    return spans, {(shard.first, shard.last): shard for shard in found if shard.file not in problems}


def name_stale_siblings(folder: Path, key: dict) -> None:
    """Warn of finished stores of the very same inputs that cannot be used, and say what is different."""
    for path in sorted(folder.parent.glob(f"*/{INDEX}")):
        try:
            other = read_index(path.parent)["key"]
        except ValueError as error:
            logger.warning("not used: %s", error)
            continue
        if other.get("inputs") == key["inputs"] and other != key:
            what = difference(other, key)
            # other layers are tried on purpose
            logger.log(
                logging.DEBUG if what == "tokens" else logging.WARNING,
                "%s has features of the same inputs, but not of the same %s; not used",
                path.parent,
                what,
            )


def difference(one: dict, other: dict) -> str:
    """Names of what two keys do not share."""
    flat = [{**k["encoder"], **{name: k[name] for name in ("inputs", "stored_dtype")}} for k in (one, other)]
    return ", ".join(sorted(name for name in {*flat[0], *flat[1]} if flat[0].get(name) != flat[1].get(name)))
