"""Offline encoders and data sets: names in, transformers folders and ``datasets.Dataset`` rows out."""

from .distinct import index_distinct
from .easy_vqa import answer_names, image_paths, load_easy_vqa, load_easy_vqa_statements, statement
from .offline_encoders import convert_efficientnet_lite, minilm_l6_path


__all__ = [
    "answer_names",
    "convert_efficientnet_lite",
    "image_paths",
    "index_distinct",
    "load_easy_vqa",
    "load_easy_vqa_statements",
    "minilm_l6_path",
    "statement",
]
