"""Part `flickr8k` of the suite `alignment`: what `otmerge align --refine` does, on captioned photographs.

In: the folder that `OTMERGE_DATA` names, whose `flickr8k` is an imagefolder in the official split. Out: retrieval on
test of the closed form and of what it was refined to.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from otmerge_hf.alignment import align_encoders
from otmerge_hf.alignment.result import retrieval_table
from otmerge_hf.data import load_pair_splits
from otmerge_hf.training import refine_alignment

from ..runner.cell import Place, Record
from .alignment import VARIABLE, data_folder


ENCODERS = ("efficientnet-lite0", "minilm-l6")


def flickr8k(choices: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Align EfficientNet-Lite0 at 224 pixels and MiniLM-L6 in closed form, and refine.

    Raises:
        FileNotFoundError: If no folder is named, or it has no `flickr8k`.
    """
    result = align_encoders(
        *ENCODERS,
        load_pair_splits(str(flickr8k_folder())),
        cache_dir=place.cache / "flickr8k",
        batch_size=16,
        refine=partial(refine_alignment, output_dir=place.cache / "flickr8k"),
    )
    return {
        "fit": repr(result.fit),
        "counts": result.counts,
        "scores": result.scores,
        "refinement": result.refinement._asdict(),
        "seconds": result.seconds,
    }


def flickr8k_folder() -> Path:
    """The imagefolder of the data set.

    Raises:
        FileNotFoundError: If no folder is named, or it has no `flickr8k`.
    """
    data = data_folder()
    if data is None or not (data / "flickr8k").is_dir():
        raise FileNotFoundError(f"No flickr8k at {data}: --data or {VARIABLE} names the folder that has it.")
    return data / "flickr8k"


def markdown(part: Record) -> str:
    """The part's section of the report."""
    counts, scores, made, seconds = part["counts"], part["scores"], part["refinement"], part["seconds"]
    sizes = counts["test"]["images"], counts["test"]["texts"]
    closed, trained = (scores[name]["mean_recall@1"] for name in ("closed_form_test", "test"))
    return "\n".join(
        [
            "## Photographs: Flickr8k, the best closed form and what a training makes of it",
            "",
            f"{counts['train']['images']:,} photographs with {counts['train']['pairs']:,} captions to fit on, "
            f"{counts['validation']['images']:,} to choose by. The best fit on validation, `{part['fit']}`, "
            "fitted again on both:",
            "",
            f"```\n{retrieval_table(scores['closed_form_test'], *sizes)}\n```",
            "",
            f"`--refine`: {made['steps']} contrastive steps from the training photographs' fit, validation "
            f"{made['before']:.4f} -> {made['after']:.4f}, then a quarter as many on both:",
            "",
            f"```\n{retrieval_table(scores['test'], *sizes)}\n```",
            "",
            f"Mean R@1 {closed:.4f} -> {trained:.4f}, {trained / closed:.2f} times. "
            f"Features {seconds['features']:.0f} s, fits {seconds['fit']:.0f} s, refining {seconds['refine']:.0f} s.",
        ]
    )
