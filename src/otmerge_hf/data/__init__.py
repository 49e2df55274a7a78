"""Data sets: names, folders and files in, `datasets.Dataset` rows out."""

from .distinct import index_distinct
from .easy_vqa import answer_names, image_paths, load_easy_vqa, load_easy_vqa_statements
from .image_inputs import ImageInputs
from .pair_splits import PairSplit, load_pair_splits
from .pairs import load_pairs
from .sources import load_source, split_names
from .statements import NoStatement, statement
from .unpaired import load_images, load_texts


__all__ = [
    "ImageInputs",
    "NoStatement",
    "PairSplit",
    "answer_names",
    "image_paths",
    "index_distinct",
    "load_easy_vqa",
    "load_easy_vqa_statements",
    "load_images",
    "load_pair_splits",
    "load_pairs",
    "load_source",
    "load_texts",
    "split_names",
    "statement",
]
