"""`results.json` of a merge that answers (`otmerge train`, [`MergeResult`]) -> facts of its card."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .facts import CardFacts, Metric, Table
from .numbers import counted, score
from .read_alignment import retrieval_table
from .run_facts import compute_lines, data_of, measured_lines, parts_line
from .snippets import snippet


MERGED = "merged"
_METRICS = {"accuracy": "accuracy", "VQA accuracy": "vqa_accuracy", "F1": "f1"}


def is_answers(results: Mapping[str, Any]) -> bool:
    """Whether a training on questions wrote them."""
    return {"measure", "test", "counts", "settings"} <= results.keys()


def read_answers(facts: CardFacts, results: Mapping[str, Any]) -> CardFacts:
    """Add what a training found to what the configuration tells."""
    settings, counts, measure = results["settings"], results["counts"], results["measure"]
    name, hub = data_of(settings)
    data, datasets = [parts_line(name, counts)], list(hub)
    rows = [(name, score(value)) for name, value in results["test"].items()]
    if results["ceiling"] < 1:
        rows.append(("possible with these answers", score(results["ceiling"])))
    tables = [Table(f"On {counted(counts['test']['rows'], 'test row')}", ("", measure), tuple(rows))]
    if aligned := results["alignment"]:
        captions, more = data_of(settings, "captions")
        data.append(f"To align on, {parts_line(captions, aligned['counts'])}")
        datasets += more
        start = [("the aligned start", aligned["retrieval"])]
        tables.append(retrieval_table(start, aligned["counts"]["test"]))
    if not settings.get("asks", True):
        about = facts.about.replace("answers questions about images with one of", "sorts images with texts into")
        classes = about.replace(" answers. Made", " classes. Made")
        facts = replace(facts, about=classes, snippet=snippet(facts.name, "image", answers=True, asks=False))
    return replace(
        facts,
        data=tuple(data),
        data_name=name,
        datasets=tuple(dict.fromkeys(datasets)),
        stages=_stages(results, settings),
        tables=tuple(tables),
        metrics=(Metric(_METRICS[measure], measure, results["test"][MERGED]),),
        measured=measured_lines(settings),
        compute=compute_lines(results),
        limits=(*facts.limits, *results.get("warnings", ())),
    )


def _stages(results: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[str, ...]:
    aligned, lora, lines = results["alignment"], settings.get("lora"), []
    if aligned:
        lines.append(f"The adapters were aligned on captions in closed form: `{aligned['fit']}`.")
    else:
        lines.append("No captions: nothing was aligned, the adapters learnt from the questions alone.")
    if errors := results.get("query_tokens_errors"):
        tried = ", ".join(f"{name} {score(error)}" for name, error in errors.items())
        lines.append(f"Tokens of the text encoder were chosen by the error of the words on validation: {tried}.")
    if count := results["pseudo_labels"]:
        lines.append(f"{counted(count, 'unlabelled row')} were answered by the aligned encoders and learnt from.")
    trained = (
        f"at most {settings['epochs']:g} passes, or {counted(settings['least_steps'], 'step')} where these are fewer, "
        f"batch {settings['batch_size']:,}, AdamW at {settings['learning_rate']:g} on a cosine schedule"
    )
    if lora:
        return (*lines, f"Both encoders learnt low-rank updates (LoRA, rank {lora}), with the fuser: {trained}.")
    lines.append("Both encoders stayed as they were; each distinct input went through them once.")
    if "validation_losses" in results:
        losses = ", ".join(f"{part} {score(loss)}" for part, loss in results["validation_losses"].items())
        kept = ", ".join(results["linear_path"]) or "nothing"
        lines.append(f"Linear path, validation loss in nats by part: {losses}; kept: {kept}.")
        shares, steps = results["shares"], results["fuser_steps"]
        fuser = f"kept, {counted(steps, 'step')}" if shares["fuser"] else "left out, for validation did not gain"
        mixed = f"{shares['fuser']:g} times the fuser's plus {shares['path']:g} times the linear path's"
        lines.append(f"Fuser ({trained}): {fuser}. The answers' logits are {mixed}.")
    return tuple(lines)
