"""Tables of a source -> the one for training, the one for validation, the one for test."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .table_parts import Part, list_parts
from .tables import Table


ROLES = ("train", "validation", "test")
_SLICE = re.compile(r"(?P<name>.+?)(\[(?P<start>\d+%?)?:(?P<stop>\d+%?)?\])?")


def choose_parts(
    parts: Sequence[Part], train: bool = True, usual: Mapping[str, str] | None = None, **wanted: str | None
) -> tuple[dict[str, Table], list[str]]:
    """Read the tables for training, validation and test, where a source has them; and list those that nobody named.

    Whatever is asked for, the tables come in the order of [`ROLES`]. Where a slice of the only table, or of the one
    for training, is asked for validation or test, training gets the rest of it.

    Args:
        parts: As [`find_parts`] lists them.
        train: Whether there must be one to train on.
        usual: Names of the parts of a well-known source, as `wanted`, for what nobody asks for.
        **wanted: `train_split`, `validation_split` and `test_split`: a part's name, or a slice as `"train[:500]"`.

    Raises:
        ValueError: If a name is not found, or it is not clear which table is for what; the message lists them.
    """
    chosen: dict[str, list[Part]] = {}
    cuts: dict[str, re.Match[str]] = {}
    for role in ROLES:
        if asked := wanted.get(f"{role}_split"):
            match = _SLICE.fullmatch(asked)
            name = match["name"] if match else asked
            named = [part for part in parts if name in part.names]
            chosen[role] = named or [part for part in parts if part.role == name]
            if match:
                cuts[role] = match
            if not chosen[role]:
                raise ValueError(f"{role}_split: there is no {name!r}; there are {list_parts(parts)}")
    asked_for = dict(chosen)
    taken = {id(part) for found in chosen.values() for part in found}
    free = [part for part in parts if id(part) not in taken]
    cut_from = {id(part) for role, cut in cuts.items() if cut[2] for part in asked_for[role]}
    sliced = [part for part in parts if id(part) in cut_from]
    for role in ROLES:
        left, name = free + (sliced if role == "train" else []), (usual or {}).get(f"{role}_split")
        named = [part for part in left if name in part.names]
        chosen.setdefault(role, named or [part for part in free if part.role == role])
    if not chosen["train"] and len(parts) == 1:  # one table alone is for training, whatever its name
        chosen |= {role: [] for role in ROLES[1:] if role not in asked_for}
        chosen["train"] = free or sliced
    for own in ("train", None):  # beside tables for something else, the one without a split in its name
        for some in (free, sliced):
            chosen["train"] = chosen["train"] or [part for part in some if part.role == own]
    for role, found in chosen.items():
        if len(found) > 1 and not _are_shards(found):
            several = f"several tables{f' for {role}' if found[0].role else ' with no split in their names'}"
            raise ValueError(f"{several}: {list_parts(found)}; pass one of them as {role}_split")
    tables = {role: _read(chosen[role], cuts.get(role)) for role in ROLES if chosen[role]}
    if chosen["train"] and "train" not in asked_for:
        same = {id(part) for part in chosen["train"]}
        others = [tables[role] for role, found in asked_for.items() if same & {id(part) for part in found}]
        tables["train"] = _without(tables["train"], others)
        if not tables["train"].places and not tables["train"].broken:
            del tables["train"]
    if train and "train" not in tables:
        raise ValueError(f"there is nothing to train on: there are {list_parts(parts)}; pass train_split")
    used = {id(part) for found in chosen.values() for part in found}
    unused = [part.names[0] for part in parts if id(part) not in used and part.role is None]
    return tables, unused


def _without(table: Table, others: Sequence[Table]) -> Table:
    """A table without the rows that other slices of it have."""
    gone = {place for other in others for place in [*other.places, *(place for place, _ in other.broken)]}
    rest = table.select([row for row, place in enumerate(table.places) if place not in gone])
    return replace(rest, broken=[bad for bad in table.broken if bad[0] not in gone])


def _are_shards(parts: Sequence[Part]) -> bool:
    """Whether names differ in their numbers only, as `train-00000-of-00002.parquet` does."""
    return len({re.sub(r"\d+", "0", part.names[0]) for part in parts}) == 1


def _read(parts: Sequence[Part], cut: re.Match[str] | None) -> Table:
    first, *others = [part.read() for part in parts]
    table = join_tables(first, others) if others else first
    if cut is None or cut[2] is None:
        return table
    start, stop = (_edge(cut[name], len(table), default) for name, default in (("start", 0), ("stop", len(table))))
    own = table.select(range(len(table))[start:stop])
    numbers = [_number(place) for place in own.places]
    between = [bad for bad in own.broken if numbers and numbers[0] <= _number(bad[0]) <= numbers[-1]]
    return replace(own, broken=between)


def _number(place: str) -> int:
    """7 of "line 7"."""
    return int(place.split()[1])


def _edge(word: str | None, size: int, default: int) -> int:
    return default if word is None else int(word[:-1]) * size // 100 if word.endswith("%") else int(word)


def join_tables(first: Table, others: Sequence[Table]) -> Table:
    """The rows of several tables, one after the other; a column that one lacks is None there."""
    tables = [first, *others]
    names = dict.fromkeys(name for table in tables for name in table.columns)
    columns = {name: [v for table in tables for v in table.columns.get(name, [None] * len(table))] for name in names}
    places = [f"{table.places[row]} of {table.name}" for table in tables for row in range(len(table))]
    broken = [(f"{place} of {table.name}", reason) for table in tables for place, reason in table.broken]
    name = f"{first.name} and {len(others)} more"
    return replace(first, name=name, columns=columns, places=places, broken=broken)
