"""Rows that name inputs by number -> pixels and token ids, for encoders that learn."""

from collections.abc import Sequence
from typing import Any

import torch

from ..features.collator import dense_labels, distinct
from ..model.images import open_image
from ..model.processing_otmerge import OTMergeProcessor


class RawCollator:
    """Opens, processes and stacks the inputs of every batch anew.

    Args:
        contexts: Images: paths, or opened when asked for.
        queries: Texts.
        processor: The merge's.
        num_labels, share_contexts: As of [`FeatureCollator`].
    """

    def __init__(
        self,
        contexts: Sequence[Any],
        queries: Sequence[str],
        processor: OTMergeProcessor,
        num_labels: int | None = None,
        share_contexts: bool = False,
    ) -> None:
        self.contexts, self.queries, self.processor = contexts, queries, processor
        self.num_labels, self.share_contexts = num_labels, share_contexts

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Make a batch of rows with `context_features` and `query_features`, places in the lists, and `labels`.

        A row about several images has a list of places as its `context_features`.
        """
        places, shared = [row["context_features"] for row in rows], {}
        if self.share_contexts:
            places, shared["context_index"] = distinct(places)
        images: list[Any] = [open_image(self.contexts[one]) for one in places if isinstance(one, int)]
        if len(images) < len(places):
            images = [
                [open_image(self.contexts[place]) for place in ([one] if isinstance(one, int) else one)]
                for one in places
            ]
        texts = [self.queries[row["query_features"]] for row in rows]
        options: dict[str, Any] = {"padding": True, "truncation": True, "return_tensors": "pt"}
        batch = shared | dict(self.processor(images=images, **options)) | dict(self.processor(text=texts, **options))
        if "labels" in rows[0]:
            batch["labels"] = dense_labels([row["labels"] for row in rows], self.num_labels)
        return batch
