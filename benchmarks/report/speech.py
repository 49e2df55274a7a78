"""Cells of `speech` -> Markdown: recall of spoken captions by method, voice and number of pairs."""

from collections.abc import Sequence
from statistics import mode

from ..runner.cell import Record
from .intervals import estimate
from .table import interval


DIRECTIONS = {"context_to_query": "sound -> text", "query_to_context": "text -> sound"}
KS = (1, 5, 10)
_VOICES = {"test": "a new speaker", "accent": "a new speaker and accent", "seen": "control: heard in training"}


def markdown(records: Sequence[Record]) -> str:
    """A table of methods with the most pairs, one of voices, and one of numbers of pairs."""
    windows = [record for record in records if "recall" in record]
    records = [record for record in records if "recall" not in record]
    most = max(record["settings"]["pairs"] for record in records)
    full = [record for record in records if record["settings"]["pairs"] == most]
    first = full[0]
    machine = ", ".join(f"{name} {value}" for name, value in first["machine"].items())
    lines = [
        f"Made by `python -m benchmarks run speech`. {first['candidates']:,} test captions, each spoken once; chance "
        f"{1 / first['candidates']:.4f}. Voices of espeak-ng: {', '.join(first['voices']['train'])} in training, "
        f"{first['voices']['validation']} in validation. {len(full)} draws of the training captions; 95% t intervals. "
        'What stands under "chosen" was chosen on validation, by most draws. Draws overlap and test sentences are the '
        f"same for all: what others would change is not in the intervals, one standard error is about "
        f"{(0.09 / first['candidates']) ** 0.5:.3f} where R@1 is 0.9. Machine: {machine}.",
        "",
        f"### {most:,} pairs, the voice `{first['voices']['tested']['test']}`, which speaks nowhere else",
        "",
        "| method | chosen | " + " | ".join(f"{name} R@{k}" for name in DIRECTIONS.values() for k in KS) + " |",
        "|---|---" + "|---" * (len(DIRECTIONS) * len(KS)) + "|",
    ]
    for method in first["methods"]:
        cells = [_score(full, method, "test", f"{way}_recall@{k}") for way in DIRECTIONS for k in KS]
        chosen = mode(record["methods"][method]["chosen"] for record in full)
        lines.append(f"| {method} | `{chosen}` | {' | '.join(cells)} |")
    lines += ["", f"### The voice, {most:,} pairs", "", "R@1, sound -> text / text -> sound.", ""]
    voices = list(first["voices"]["tested"])
    named = (f"{_VOICES[voice]} (`{first['voices']['tested'][voice]}`)" for voice in voices)
    lines += [f"| method | {' | '.join(named)} |"]
    lines += ["|---" * (len(voices) + 1) + "|"]
    for method in first["methods"]:
        cells = [" / ".join(_score(full, method, voice, f"{way}_recall@1") for way in DIRECTIONS) for voice in voices]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    lines += ["", "### The number of pairs", "", "R@1 of the voice that speaks nowhere else.", ""]
    counts = sorted({record["settings"]["pairs"] for record in records})
    lines += ["| method | " + " | ".join(f"{count:,}" for count in counts) + " |", "|---" * (len(counts) + 1) + "|"]
    for method in first["methods"]:
        of_count = ([record for record in records if record["settings"]["pairs"] == count] for count in counts)
        cells = [
            " / ".join(_score(found, method, "test", f"{way}_recall@1") for way in DIRECTIONS) for found in of_count
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    for record in windows:
        short, whole = (record["recall"][name] for name in ("8 s", "30 s"))
        lines += [
            "",
            "### A window of 8 seconds in place of 30",
            "",
            f"The first {record['clips']} test clips, the fit of {record['settings']['window_pairs']:,} pairs in "
            f"windows of 8 s (`{record['fit']}`): R@1 sound -> text {short:.4f}; the same clips padded to 30 s "
            f"{whole:.4f}. The last layer's means differ by {record['distance']:.2f} of the deviation between clips.",
        ]
    return "\n".join(lines) + "\n"


def _score(records: Sequence[Record], method: str, voice: str, name: str) -> str:
    scores = [record["methods"][method]["scores"][voice][name] for record in records if method in record["methods"]]
    return interval(estimate(scores)) if scores else "-"
