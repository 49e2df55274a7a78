"""`results.json` of an alignment (`otmerge align`, [`AlignmentResult`]) -> facts of its card."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .facts import CardFacts, Metric, Table
from .numbers import counted, score
from .run_facts import compute_lines, data_of, measured_lines, parts_line


_DIRECTIONS = (("image -> text", "context_to_query"), ("text -> image", "query_to_context"))
_HEAD = ("", "direction", "R@1", "R@5", "R@10", "median rank")


def is_alignment(results: Mapping[str, Any]) -> bool:
    """Whether an alignment wrote them."""
    return {"fit", "candidates", "test", "pairs"} <= results.keys()


def read_alignment(facts: CardFacts, results: Mapping[str, Any]) -> CardFacts:
    """Add what an alignment found to what the configuration tells."""
    settings = results.get("settings", {})
    name, hub = data_of(settings)
    counts = {part: {kind: results[kind][part] for kind in ("pairs", "images", "texts")} for part in results["images"]}
    rows, refined = [("this merge", results["test"])], results.get("refinement")
    if refined is not None and refined["steps"] and "closed_form_test" in results:
        rows.append(("the closed form that it was refined from", results["closed_form_test"]))
    stage = f"Both encoders stayed as they were. The adapters are a fit in closed form, `{results['fit']}`, the best "
    stage += f"of {len(results['candidates']):,} on validation"
    stage += "; made again on training and validation pairs." if results["refitted"] else "."
    stages = [stage]
    if refined is not None and not refined["steps"]:
        stages.append(
            "A contrastive training after it was given up: mean Recall@1 on validation was at no time above the "
            f"{score(refined['before'])} of the closed form, which was kept."
        )
    elif refined is not None:
        stages.append(
            f"Refined by contrastive training, {counted(refined['steps'], 'step')}: mean Recall@1 on validation "
            f"{score(refined['before'])} before, {score(refined['after'])} after."
        )
    return replace(
        facts,
        data=(parts_line(name, counts),),
        data_name=name,
        datasets=hub,
        stages=tuple(stages),
        tables=(retrieval_table(rows, counts["test"]),),
        metrics=tuple(Metric(_kind(key), key.replace("_", " "), value) for key, value in results["test"].items()),
        measured=measured_lines(settings),
        compute=compute_lines(results),
    )


def retrieval_table(rows: list[tuple[str, Mapping[str, float]]], counts: Mapping[str, int]) -> Table:
    """Both directions of each row's retrieval, and how often a random image and text are a pair."""
    images, texts = counts["images"], counts["texts"]
    lines = []
    for name, scores in rows:
        for title, direction in _DIRECTIONS:
            recalls = [score(scores[f"{direction}_recall@{k}"]) for k in (1, 5, 10)]
            lines.append((name, title, *recalls, f"{scores[f'{direction}_median_rank']:g}"))
    lines.append(("a random pick of image and text", "either", score(counts["pairs"] / (images * texts)), "", "", ""))
    return Table(f"Retrieval among {images:,} test images and {counted(texts, 'distinct text')}", _HEAD, tuple(lines))


def _kind(key: str) -> str:
    """A metric without its direction: `recall_at_1`, `median_rank`, `map`."""
    kind = "median_rank" if key.endswith("median_rank") else key.rpartition("_")[2]
    return kind.replace("@", "_at_")
