"""Parts of the suite `alignment` -> Markdown; intervals are made from the runs by seed."""

from collections.abc import Callable, Sequence
from typing import Any

from ..report.intervals import estimate, paired_difference
from ..report.table import interval
from ..runner.cell import Record
from . import alignment_flickr8k, alignment_flickr8k_few


def markdown(records: Sequence[Record], parts: Sequence[str]) -> str:
    """All parts that there are, in order, each with its machine."""
    blocks = ["Made by `python -m benchmarks run alignment`. Intervals are 95% t intervals over seeds."]
    for name in parts:
        found = [r for r in records if r["settings"]["part"] == name]
        join = {"flickr8k_few": alignment_flickr8k_few.joined, "flickr8k": alignment_flickr8k.joined}.get(name, list)
        for record in join(found):
            machine = ", ".join(f"{key} {value}" for key, value in record["machine"].items())
            blocks += [_REPORTS[name](record), f"Machine: {machine}."]
    return "\n\n".join(blocks) + "\n"


def _closed(part: Record) -> str:
    lines = [
        "## Closed forms on all training pairs",
        "",
        f"{part['train_pairs']} pairs, {part['candidates']} test candidates (chance {1 / part['candidates']:.4f}). "
        f"Each row is the best of its kind on validation (mean R@1 of both directions), of {part['fits_tried']} fits; "
        f"all of them together took {part['seconds_all_fits']:.0f} s.",
        "",
        "| best of | fit | image | captions | val. mean R@1 | test R@1 image->text | text->image | R@10 image->text "
        "| median rank | FOSCTTM | fit seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    named = {"all": part["winner"]} | part["by_family"]
    named |= {f"{key} pooling": row for key, row in part["by_pooling"].items()}
    named |= {f"{key} caption(s) a picture": row for key, row in part["by_captions"].items()}
    for name, row in named.items():
        test = row["test"]
        lines.append(
            f"| {name} | `{row['fit']}` | {row['image_size']} px, {row['pooling']} | {row['captions']} "
            f"| {row['validation']:.3f} | **{test['context_to_query_recall@1']:.3f}** "
            f"| {test['query_to_context_recall@1']:.3f} | {test['context_to_query_recall@10']:.3f} "
            f"| {test['context_to_query_median_rank']:.0f} | {test['foscttm']:.3f} | {row['seconds']:.2f} |"
        )
    lines += ["", "Mean pooling is the one that loads into a model: an affine map commutes with the mean of tokens."]
    return "\n".join(lines)


def _trained(part: Record) -> str:
    best = max(part["rows"], key=lambda row: row["validation"])
    best_form = max(part["closed"], key=lambda row: row["validation"])
    lines = [
        "## Trained heads",
        "",
        "Linear heads that begin at a closed form (CCA, three captions a picture), 400 steps with dropout "
        "on the features; mean R@1 of both directions. Trained: three seeds. "
        "Closed forms: the best of their features on validation. One standard error over the 293 test pictures is "
        "about 0.02.",
        "",
        "| image | what | validation | test [95%] |",
        "|---|---|---|---|",
    ]
    for row in part["closed"]:
        name = f"**`{row['fit']}`**" if row is best_form else f"`{row['fit']}`"
        lines.append(f"| {row['features']} | {name} | {row['validation']:.3f} | {row['test']:.4f} |")
    for row in part["rows"]:
        name = f"**{row['loss']}**" if row is best else row["loss"]
        test = interval(estimate([run["test"] for run in row["runs"]]))
        lines.append(f"| 224 px, {row['features']} | {name} | {row['validation']:.3f} | {test} |")
    ratio = best["test"] / best_form["test"]
    return "\n".join(
        [*lines, "", f"Bold: best on validation of its kind. Trained over closed form: {ratio:.2f} times."]
    )


def _few_pairs(part: Record) -> str:
    lines = [
        "## Few pairs, the rest unpaired",
        "",
        f"Training split of {part['train_rows']} emoji at 160 px: so many pairs, every other picture and every other "
        f"text unpaired and shuffled. Mean R@1 of both directions on test, {part['seeds']} seeds; the difference is "
        "taken seed by seed. Settings chosen on validation for each number of pairs.",
        "",
    ]
    return "\n".join(lines + _by_pairs(part["by_pairs"]))


def _by_pairs(by_pairs: dict[str, Any], rivals: Sequence[str] = ("pairs only",)) -> list[str]:
    """A row for each method, against the rival that has the highest mean on test."""
    against = "the best closed form" if len(rivals) > 1 else rivals[0]
    lines = [
        f"| pairs | what | fit | test mean R@1 [95%] | difference to {against} [95%] | interval above zero |",
        "|---|---|---|---|---|---|",
    ]
    for count, chosen in by_pairs.items():
        scores = {name: dict(enumerate(run["test"] for run in row["runs"])) for name, row in chosen.items()}
        best = max(rivals, key=lambda name: sum(scores[name].values()))
        for name, row in chosen.items():
            difference = None if name == best else paired_difference(scores[name], scores[best])
            verdict = "" if difference is None or difference.low is None else "yes" if difference.low > 0 else "no"
            lines.append(
                f"| {count} | {name} | `{row['fit']}` | {interval(estimate(list(scores[name].values())))} "
                f"| {interval(difference, sign=True)} | {verdict} |"
            )
    return lines


def _flickr8k_few(part: Record) -> str:
    lines = [
        "## Photographs: few pairs, the rest unpaired",
        "",
        f"Flickr8k: so many of the {part['train_images']:,} training photographs with one caption each; every other "
        f"photograph and every other one of the {part['train_texts']:,} captions is unpaired. Mean R@1 of both "
        f"directions on the {part['test_images']:,} test photographs with all their captions, {part['seeds']} draws "
        "of the pairs; the difference is taken draw by draw, to the closed form that is best on test of the three. A "
        "fifth of the pairs chooses strengths, `auto` and the steps of a training, then all pairs are fitted; the fit "
        "shown is the most frequent choice. Features are standardised, photographs reduced to their 256 principal "
        "directions, both by all training rows. Trainings go on with `refine_alignment`'s settings for at most 48 "
        "steps; the Sinkhorn term has weight 1 and sees 256 unpaired rows a side.",
        "",
    ]
    return "\n".join(lines + _by_pairs(part["by_pairs"], alignment_flickr8k_few.CLOSED_FORMS))


def _text_text(part: Record) -> str:
    lines = [
        "## Two text encoders, few pairs",
        "",
        f"MiniLM-L6 against MiniLM-L3 on the names and keywords of {part['train_rows']} emoji, the second side behind "
        f"a random rotation, one for each seed; {part['candidates']} test candidates. Without any map the mean R@1 "
        f"is {part['unmapped_test_mean']:.4f} (chance {1 / part['candidates']:.4f}); Procrustes on all training pairs "
        f"reaches {part['all_pairs_test_mean']:.4f}. Pairs, seeds, choice and columns as in the study before.",
        "",
    ]
    return "\n".join(lines + _by_pairs(part["by_pairs"]))


def _shared(part: Record) -> str:
    blocks = [f"{name}:\n\n```\n{part[name]}\n```" for name in ("emoji", "against noise")]
    return "\n\n".join(["## Pre-flight: what the two encoders share", *blocks])


def _cost(part: Record) -> str:
    lines = [
        "## Cost of a fit: 100,000 x 1024 against 100,000 x 768, float32",
        "",
        "Peak memory is the process's peak less what it held before the inputs were made; the inputs are in it.",
        "",
        "| fit | seconds | inputs, MiB | peak, MiB | peak / inputs |",
        "|---|---|---|---|---|",
    ]
    for row in part["rows"]:
        lines.append(
            f"| {row['fit']} | {row['seconds']:.1f} | {row['inputs_mib']:.0f} | {row['peak_mib']:.0f} "
            f"| {row['ratio']:.2f} |"
        )
    return "\n".join(lines)


_REPORTS: dict[str, Callable[[Record], str]] = {
    "closed": _closed,
    "trained": _trained,
    "flickr8k": alignment_flickr8k.markdown,
    "few_pairs": _few_pairs,
    "flickr8k_few": _flickr8k_few,
    "text_text": _text_text,
    "shared": _shared,
    "cost": _cost,
}
