"""What training a merge on one's own questions gave, and how good it is beside what needs no image."""

import os
from dataclasses import dataclass, field
from typing import Any

from ..hub.run_facts import count_parameters
from ..hub.save import save_merge
from ..model.modality import IMAGE, modality_of
from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from ..model.processing_otmerge import OTMergeProcessor
from .growth import Growth
from .query_tokens import told_choice


@dataclass
class MergeResult:
    """What [`train_merge`] returns; `str()` of it is a table to read.

    Attributes:
        model: The merge, on the CPU.
        processor: Makes its inputs.
        growth: What of the head was kept, and why; None where encoders learnt, by LoRA.
        measure: What the scores are: `accuracy`, `VQA accuracy` or `F1`.
        scores: On the test part, each in [0, 1]: `most frequent answer`, `words only, linear`, `merged`.
        ceiling: The best that the vocabulary allows there: answers that occur in no training row cannot be given.
        counts: Rows, images and distinct texts of each part.
        alignment: Where the adapters were aligned: the fit, its pairs and its retrieval; None where they were not.
        pseudo_labels: Unlabelled rows that were answered and learnt from.
        seconds: Time of each stage that was not finished before.
        settings: What the run was asked for, and the tokens that were chosen.
        query_errors: Where the tokens of the text encoder were chosen: the validation error of each, see
            [`choose_query_tokens`].
    """

    model: OTMergeForQuestionAnswering
    processor: OTMergeProcessor
    growth: Growth | None
    measure: str
    scores: dict[str, float]
    ceiling: float
    counts: dict[str, dict[str, int]]
    alignment: dict[str, Any] | None
    pseudo_labels: int
    seconds: dict[str, float]
    settings: dict[str, Any]
    query_errors: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        questions = self.counts["test"].get("scored", self.counts["test"]["rows"])
        lines = [*(_growth_table(self.growth) if self.growth else [])]
        lines.append(f"{'':34}{self.measure} on {questions:,} test rows")
        if self.pseudo_labels:
            lines.insert(0, f"{self.pseudo_labels:,} unlabelled rows were answered by the aligned encoders.")
        lines += [f"{name:34}{score:.4f}" for name, score in self.scores.items()]
        if self.ceiling < 1:
            lines.append(f"{'possible with these answers':34}{self.ceiling:.4f}")
        if self.alignment:
            recall, images = self.alignment["retrieval"]["mean_recall@1"], self.alignment["counts"]["test"]["images"]
            lines.insert(0, f"Aligned by {self.alignment['fit']}.")
            lines.insert(1, f"Of {images:,} captioned test images: mean recall@1 {recall:.4f}, both ways.\n")
        if self.query_errors:
            lines.insert(0, told_choice(self.settings["tokens"]["query"], self.query_errors))
        text = "\n".join([*lines, *self.warnings])
        sees = modality_of("context", self.model.otmerge.context_encoder) is IMAGE
        return text if sees else text.replace("image", "sound")

    @property
    def warnings(self) -> list[str]:
        """What a reader of the scores should know: what was not learnt, and what may be chance."""
        found = []
        if self.growth and not self.growth.linear.strengths and not self.growth.shares.fuser:
            rows = self.counts["validation"]["rows"]
            found.append(
                f"Nothing was learnt but how often each answer occurs: the {rows:,} validation rows gain by neither "
                "words nor image. More labelled rows may help, or --captions to align on."
            )
        rows = self.counts["test"].get("scored", self.counts["test"]["rows"])
        merged, words = self.scores.get("merged", 0.0), self.scores.get("words only, linear", 0.0)
        chance = 1.96 * (max(merged * (1 - merged), words * (1 - words)) / rows) ** 0.5 if rows else 0.0
        if not found and self.scores and merged <= words:
            within = (
                f", though on {rows:,} rows {chance:.3f} either way may be chance" if words - merged < chance else ""
            )
            found.append(f"The merge is no better than the words alone{within}.")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model, the processor and the weights, as JSON values."""
        found = {
            "measure": self.measure,
            "test": self.scores,
            "ceiling": self.ceiling,
            "counts": self.counts,
            "answers": len(self.model.config.id2label or {}),
            "alignment": self.alignment,
            "pseudo_labels": self.pseudo_labels,
            "warnings": self.warnings,
            "seconds": {name: round(seconds, 1) for name, seconds in self.seconds.items()},
            "settings": self.settings,
            "query_tokens_errors": self.query_errors,
            "parameters": count_parameters(self.model),
        }
        if self.growth:
            found["validation_losses"] = self.growth.linear.losses
            found["linear_path"] = list(self.growth.linear.strengths)
            found["shares"] = self.growth.shares._asdict()
            found["fuser_steps"] = self.growth.fuser_steps
        return found

    def save(self, folder: str | os.PathLike) -> None:
        """Write model, processor, `results.json` and a model card, `README.md`, unless somebody else wrote one."""
        save_merge(folder, self.model, self.processor, self.to_dict())


_PARTS = {
    "bias": "how often each answer occurs",
    "query": "+ words of the question",
    "context": "+ mean of the image",
    "cosine": "+ cosine of image and question",
    "late_interaction": "+ best cosines of single tokens",
    "transport": "+ transport between the tokens",
    "answers": "+ cosines of image and answers",
}


def _growth_table(growth: Growth) -> list[str]:
    """What validation gained by each part of the head, and what was kept."""
    lines = [f"{'':34}{'loss on validation':>18}  kept"]
    for name, loss in growth.linear.losses.items():
        kept = name == "bias" or name in growth.linear.strengths
        lines.append(f"{_PARTS[name]:34}{loss:18.4f}  {'yes' if kept else 'no'}")
    share = f"yes, its logits times {growth.shares.fuser:g}" if growth.shares.fuser else "no"
    lines.append(f"{'and a fuser, as far as it helps':34}{growth.mixed_loss:18.4f}  {share}")
    return [
        *lines,
        "(each row stands on the kept rows above it, and is kept if it lowers the loss by more than a standard error",
        "of the mean over validation's rows)",
        "",
    ]
