"""Cells of the suite `zoo` -> Markdown: a row a family, and every exception with its reason."""

from collections import Counter
from collections.abc import Iterator, Sequence

from ..runner.cell import Record
from .zoo_families import AUDIO, OTHER, VISION
from .zoo_texts import TEXT


#: The checks, in the order of their columns.
COLUMNS = ("build", "forward", "alone", "step", "reload", "cached", "processor", "remote", "unmerge")
_VIDEO = "Takes the frames of a video; single images are not what it was trained on."
_UNMADE = "Its processor cannot be made without a download or a library that is not among ours: {}."
#: What is not `ok`, and why; strict: an entry that no pair needs fails a test, as does an exception without an entry.
EXPECTED = {
    ("videomae", "build"): _VIDEO,
    ("timesformer", "build"): _VIDEO,
    ("vivit", "build"): _VIDEO,
    ("encodec", "build"): "A codec: it gives codes and sound, no tokens.",
    ("univnet", "build"): "A vocoder: it gives sound, no tokens.",
    ("perceiver", "build"): "Takes `inputs` of any kind, and so does not say what it looks at.",
    ("patchtst", "build"): "Takes series of numbers.",
    **{
        (name, check): _UNMADE.format((VISION | AUDIO | TEXT)[name].missing)
        for name in ("dinov3-vit", "dinov3-convnext", "sam2", "parakeet", "siglip-text")
        for check in ("cached", "processor")
    },
}
_KINDS = {"images": VISION, "sounds": AUDIO, "texts": TEXT, "refused": OTHER}


def outcomes(records: Sequence[Record]) -> Iterator[tuple[str, str, str, str]]:
    """`(context, query, check, how it ended)` of every pair."""
    for record in records:
        context = record["settings"]["context"]
        for query, found in record["pairs"].items():
            for check, said in found.items():
                yield context, query, check, said


def reasons(context: str, query: str, check: str, said: str) -> set[tuple[str, str]]:
    """Entries of [`EXPECTED`] that explain an outcome; of an error from below the package, none does."""
    if said.startswith("traceback"):
        return set()
    return {(name, check) for name in (context, query)} & set(EXPECTED)


def unexplained(records: Sequence[Record]) -> list[str]:
    """Outcomes that are neither `ok` nor in [`EXPECTED`], a line each."""
    return [
        f"{context} with {query}, {check}: {said}"
        for context, query, check, said in outcomes(records)
        if said != "ok" and not reasons(context, query, check, said)
    ]


def markdown(records: Sequence[Record]) -> str:
    """The table, with what is needed to read it."""
    found = list(outcomes(records))
    pairs = {(context, query) for context, query, _, _ in found}
    built = {pair[:2] for pair in found if pair[2:] == ("build", "ok")}
    versions = sorted({", ".join(f"{name} {v}" for name, v in r["versions"].items()) for r in records})
    notes = list(dict.fromkeys(EXPECTED.values()))
    wrong = unexplained(records)
    lines = [
        f"{len(pairs)} pairs, {len(built)} merged, {len(pairs) - len(built)} refused by name; {'; '.join(versions)}. "
        f"Without a stated reason: {len(wrong)}.",
        "",
        f"| family | class | pairs | {' | '.join(COLUMNS)} |",
        f"|---|---|---|{'---|' * len(COLUMNS)}",
    ]
    for kind, families in _KINDS.items():
        lines.append(f"| **{kind}** | | | {' | ' * (len(COLUMNS) - 1)} |")
        for name, family in families.items():
            if not any(name in pair for pair in pairs):
                continue
            mine = [one for one in found if name in one[:2]]
            count = len({one[:2] for one in mine})
            cells = [_cell(name, check, [one for one in mine if one[2] == check], notes) for check in COLUMNS]
            lines.append(f"| {name} | `{family.model}` | {count} | {' | '.join(cells)} |")
    lines += ["", *(f"{place}. {reason}" for place, reason in enumerate(notes, start=1))]
    if wrong:
        lines += ["", "Without a stated reason:", "", *(f"- {line}" for line in wrong)]
    return "\n".join(lines) + "\n"


def _cell(name: str, check: str, found: Sequence[tuple[str, str, str, str]], notes: Sequence[str]) -> str:
    """One family's outcomes of one check; what its partner is the reason of does not count."""
    said: Counter[str] = Counter()
    for context, query, _, outcome in found:
        if outcome == "ok":
            said["ok"] += 1
        elif why := reasons(context, query, check, outcome):
            if (name, check) in why:
                number = notes.index(EXPECTED[name, check]) + 1
                said[f"{'refused' if outcome.startswith('refused') else 'not tried'} ({number})"] += 1
        else:
            said[f"**{outcome.partition(':')[0]}**"] += 1
    return ", ".join(text if len(said) == 1 else f"{count} {text}" for text, count in said.items())
