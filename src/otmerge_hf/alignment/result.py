"""What aligning two encoders gave: a merge that retrieves, and how it was chosen and how well it does."""

import os
from dataclasses import dataclass, field
from typing import Any

from ..hub.run_facts import count_parameters
from ..hub.save import save_merge
from ..model.modality import IMAGE, modality_of
from ..model.modeling_otmerge import OTMergeModel
from ..model.processing_otmerge import OTMergeProcessor
from .base import Alignment
from .choice import Candidate
from .preflight import PreflightReport


_LISTED = 5


@dataclass
class AlignmentResult:
    """What [`align_encoders`] returns; `str()` of it is a page to read.

    Attributes:
        model: The merge, with the fit, refined or not, in its linear adapters, on the CPU.
        processor: Makes its inputs.
        fit: The fit in the adapters, or that they were refined from.
        refitted: Whether `fit` was made again of training and validation rows after the choice.
        candidates: All fits that were tried on the training rows, best on validation first.
        tokens: Tokens of the encoders that were chosen, by side.
        preflight: What the encoders share; None where the pairs are too few to tell.
        notes: What a reader should know of, such as why there is no pre-flight report.
        scores: Retrieval by split: `validation`, of the chosen fit before it was refitted, `test`, of `model`, and
            `closed_form_test`, of the fit, where the model was refined. See [`retrieval`].
        counts: Images, texts and pairs of each split; `unpaired` has no pairs.
        seconds: Time of `features`, of `fit` and of `refine`.
        encoders: Names of the encoders, by side, as they were asked for.
        refinement: What [`training.refine_alignment`] did on the training rows; None where it was not asked for.
        settings: What the run was asked for, and the name of its data; `command` where one started it.
    """

    model: OTMergeModel
    processor: OTMergeProcessor
    fit: Alignment
    refitted: bool
    candidates: list[Candidate]
    tokens: dict[str, str | int]
    preflight: PreflightReport | None
    notes: list[str]
    scores: dict[str, dict[str, float]]
    counts: dict[str, dict[str, int]]
    seconds: dict[str, float]
    encoders: dict[str, str]
    refinement: Any = None
    settings: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: str | os.PathLike) -> None:
        """Write the model, its processor, `results.json` with everything else, and a model card, `README.md`.

        A README that somebody else wrote stays as it is.

        Raises:
            OSError: If the folder cannot be written.
        """
        save_merge(folder, self.model, self.processor, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model and its processor, as plain values: what `results.json` holds."""
        return {
            **self.encoders,
            "tokens": self.tokens,
            **{kind: {name: row[kind] for name, row in self.counts.items()} for kind in ("images", "texts", "pairs")},
            "preflight": None if self.preflight is None else str(self.preflight),
            "notes": self.notes,
            "fit": repr(self.fit),
            "refitted": self.refitted,
            "candidates": [candidate._asdict() for candidate in self.candidates],
            "refinement": None if self.refinement is None else self.refinement._asdict(),
            **self.scores,
            "seconds": self.seconds,
            "settings": self.settings,
            "parameters": count_parameters(self.model),
        }

    def __str__(self) -> str:
        listed = self.candidates[:_LISTED]
        sizes = self.counts["test"]["images"], self.counts["test"]["texts"]
        after = (
            "Refitted on training and validation pairs; the scores above are from before, on training pairs alone."
            if self.refitted
            else "Not refitted: the fit is that of the training pairs."
        )
        lines = [
            *self.notes,
            *([] if self.preflight is None else [str(self.preflight)]),
            f"\nRecall@1 on validation, best {len(listed)} of {len(self.candidates)} fits:",
            *(f"  {candidate.recall:.4f}  {candidate.fit}" for candidate in listed),
            after,
            *self._refined(sizes),
            f"\n{self._table('test', sizes)}",
            ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items()) + ".",
        ]
        return "\n".join(lines)

    def _refined(self, sizes: tuple[int, int]) -> list[str]:
        if self.refinement is None:
            return []
        steps, before, after, _ = self.refinement
        what = f"Refined by {steps} steps" if steps else "Not refined, no evaluation was better"
        return [
            f"{what}: mean Recall@1 on validation {before:.4f} -> {after:.4f}. The closed form, then what is saved:",
            f"\n{self._table('closed_form_test', sizes)}",
        ]

    def _table(self, name: str, sizes: tuple[int, int]) -> str:
        context = "image" if modality_of("context", self.model.context_encoder) is IMAGE else "sound"
        return retrieval_table(self.scores[name], *sizes, context)


def retrieval_table(scores: dict[str, float], images: int, texts: int, context: str = "image") -> str:
    """Recall and median rank of both directions, of [`retrieval`] among so many candidates, as lines of text."""
    lines = [f"{'test':16}{'candidates':>12}{'R@1':>9}{'R@5':>9}{'R@10':>9}{'median rank':>13}"]
    directions = (f"{context} -> text", "context_to_query", texts), (f"text -> {context}", "query_to_context", images)
    for name, direction, count in directions:
        recalls = "".join(f"{scores[f'{direction}_recall@{k}']:9.4f}" for k in (1, 5, 10))
        lines.append(f"{name:16}{count:12,}{recalls}{scores[f'{direction}_median_rank']:13.1f}")
    return "\n".join(lines)
