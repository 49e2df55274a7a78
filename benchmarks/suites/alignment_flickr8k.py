"""Part `flickr8k` of the suite `alignment`: what `otmerge align --refine` does, on captioned photographs.

In: the folder that `OTMERGE_DATA` names, whose `flickr8k` is an imagefolder in the official split. Out: retrieval on
test of the closed form and of what it was refined to.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from otmerge_hf.alignment import align_encoders
from otmerge_hf.alignment.result import retrieval_table
from otmerge_hf.data import load_pair_splits
from otmerge_hf.hub.numbers import counted
from otmerge_hf.model.modality import SIDES
from otmerge_hf.training import refine_alignment

from ..report.intervals import estimate
from ..report.table import interval
from ..runner.cell import Place, Record
from .alignment import VARIABLE, data_folder


ENCODERS = ("efficientnet-lite0", "minilm-l6")


def flickr8k(choices: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Align an image encoder, EfficientNet-Lite0 at 224 pixels or the cell's own, and MiniLM-L6; and refine.

    Returns `result`: what `results.json` of `otmerge align --refine` holds, but for the seconds of encoding, since
    cells share features.

    Raises:
        FileNotFoundError: If no folder is named, or it has no `flickr8k`.
    """
    result = align_encoders(
        choices.get("context", ENCODERS[0]),
        ENCODERS[1],
        load_pair_splits(str(flickr8k_folder())),
        **{f"{side}_tokens": choices.get(f"{side}_tokens", ["last_hidden_state"]) for side in SIDES},
        cache_dir=place.cache / "flickr8k",
        batch_size=16,
        refine=partial(refine_alignment, output_dir=place.cache / "flickr8k", seed=choices.get("seed", 0)),
    )
    found = result.to_dict()
    found["seconds"] = {name: found["seconds"][name] for name in ("fit", "refine")}
    return {"result": found}


def flickr8k_folder() -> Path:
    """The imagefolder of the data set.

    Raises:
        FileNotFoundError: If no folder is named, or it has no `flickr8k`.
    """
    data = data_folder()
    if data is None or not (data / "flickr8k").is_dir():
        raise FileNotFoundError(f"No flickr8k at {data}: --data or {VARIABLE} names the folder that has it.")
    return data / "flickr8k"


def joined(records: Sequence[Record]) -> list[Record]:
    """One part for each pair of encoders and tokens, the first seed's, with those of all seeds as `of_seeds`."""
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record["settings"].get("seed", 0)):
        choices = {name: value for name, value in record["settings"].items() if name != "seed"}
        found.setdefault(repr(sorted(choices.items())), []).append(record)
    return [seeds[0] | {"of_seeds": [seed["result"] for seed in seeds]} for seeds in found.values()]


def markdown(part: Record) -> str:
    """The part's section of the report."""
    found = part["result"]
    query = found["tokens"]["query"]
    seconds, sizes = found["seconds"], (found["images"]["test"], found["texts"]["test"])
    return "\n".join(
        [
            f"## Photographs: Flickr8k, {found['context']}, the best closed form and what a training makes of it",
            "",
            f"{found['images']['train']:,} photographs with {found['pairs']['train']:,} captions to fit on, "
            f"{found['images']['validation']:,} to choose by. Tokens: `{found['tokens']['context']}`"
            + (f" and, of captions, layers `{query}`. " if query != "last_hidden_state" else ". ")
            + f"The best fit on validation, `{found['fit']}`, fitted again on both:",
            "",
            f"```\n{retrieval_table(found['closed_form_test'], *sizes)}\n```",
            "",
            *_refined(found, sizes),
            *_seeds(part["of_seeds"]),
            f"Fits {seconds['fit']:.0f} s, refining {seconds['refine']:.0f} s, after encoding.",
        ]
    )


def _refined(found: dict[str, Any], sizes: tuple[int, int]) -> list[str]:
    """What a training from the fit gained, in lines; or that it gained nothing, and the fit was kept."""
    made = found["refinement"]
    gain = f"validation {made['before']:.4f} -> {made['after']:.4f}"
    if not made["steps"]:
        return [f"`--refine`: no evaluation was better ({gain}), so the closed form is kept.", ""]
    closed, trained = (found[name]["mean_recall@1"] for name in ("closed_form_test", "test"))
    return [
        f"`--refine`: {counted(made['steps'], 'contrastive step')} from the training photographs' fit, {gain}, then "
        "as many on both, from the fit of both:",
        "",
        f"```\n{retrieval_table(found['test'], *sizes)}\n```",
        "",
        f"Mean R@1 {closed:.4f} -> {trained:.4f}, {trained / closed:.2f} times.",
        "",
    ]


def _seeds(results: Sequence[dict[str, Any]]) -> list[str]:
    """What other seeds of the training reach, in lines; none, where there is one seed."""
    if len(results) == 1:
        return []
    closed, trained = ([found[name]["mean_recall@1"] for found in results] for name in ("closed_form_test", "test"))
    values = ", ".join(f"{value:.4f}" for value in trained)
    times = [after / before for before, after in zip(closed, trained, strict=True)]
    return [
        f"Seeds 0 to {len(results) - 1} of the training: mean R@1 {values}; together {interval(estimate(trained))}, "
        f"{sum(times) / len(times):.2f} times.",
        "",
    ]
