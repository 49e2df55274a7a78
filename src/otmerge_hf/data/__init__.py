"""Data sets: names, folders and files in, ``datasets.Dataset`` rows out.

Modules are read when a name of theirs is asked for.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy_names


if TYPE_CHECKING:
    from .distinct import index_distinct
    from .easy_vqa import answer_names, image_paths, load_easy_vqa, load_easy_vqa_statements
    from .image_inputs import ImageInputs
    from .pairs import load_pairs
    from .sources import load_source, split_names
    from .statements import NoStatement, statement
else:  # not for type checkers, to which a package with `__getattr__` has every name
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "image_inputs": ["ImageInputs"],
            "easy_vqa": ["answer_names", "image_paths", "load_easy_vqa", "load_easy_vqa_statements"],
            "distinct": ["index_distinct"],
            "pairs": ["load_pairs"],
            "sources": ["load_source", "split_names"],
            "statements": ["NoStatement", "statement"],
        },
    )


__all__ = [
    "ImageInputs",
    "NoStatement",
    "answer_names",
    "image_paths",
    "index_distinct",
    "load_easy_vqa",
    "load_easy_vqa_statements",
    "load_pairs",
    "load_source",
    "split_names",
    "statement",
]
