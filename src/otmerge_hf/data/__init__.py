"""Offline encoders and data sets: names in, transformers folders and ``datasets.Dataset`` rows out.

Modules are read when a name of theirs is asked for: the encoders do without ``datasets``.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy_names


if TYPE_CHECKING:
    from .distinct import index_distinct
    from .easy_vqa import answer_names, image_paths, load_easy_vqa, load_easy_vqa_statements, statement
    from .image_inputs import ImageInputs
    from .offline_encoders import convert_efficientnet_lite, convert_minilm_l3, minilm_l6_path
    from .pairs import load_pairs
    from .sources import load_source, split_names
else:  # not for type checkers, to which a package with `__getattr__` has every name
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "image_inputs": ["ImageInputs"],
            "easy_vqa": ["answer_names", "image_paths", "load_easy_vqa", "load_easy_vqa_statements", "statement"],
            "offline_encoders": ["convert_efficientnet_lite", "convert_minilm_l3", "minilm_l6_path"],
            "distinct": ["index_distinct"],
            "pairs": ["load_pairs"],
            "sources": ["load_source", "split_names"],
        },
    )


__all__ = [
    "ImageInputs",
    "answer_names",
    "convert_efficientnet_lite",
    "convert_minilm_l3",
    "image_paths",
    "index_distinct",
    "load_easy_vqa",
    "load_easy_vqa_statements",
    "load_pairs",
    "load_source",
    "minilm_l6_path",
    "split_names",
    "statement",
]
