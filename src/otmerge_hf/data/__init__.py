"""Data sets: names, folders and files in, `datasets.Dataset` rows out."""

from .answers import Answers
from .caption_presets import CAPTION_PRESETS, CaptionPreset
from .distinct import index_distinct
from .easy_vqa import answer_names, image_paths, load_easy_vqa, load_easy_vqa_statements
from .encoded import EncodedQuestions, encode_questions
from .image_inputs import ImageInputs
from .load_questions import load_questions
from .load_rows import load_rows
from .pair_splits import PairSplit, load_pair_splits
from .pairs import load_pairs
from .presets import PRESETS, Preset
from .question_report import QuestionReport, check_questions
from .question_rows import BadRowsError
from .questions import Questions, QuestionSplits
from .sources import load_source, split_names
from .statements import NoStatement, statement
from .unpaired import load_images, load_texts
from .uploads import RefusedImageError, open_upload


__all__ = [
    "CAPTION_PRESETS",
    "PRESETS",
    "Answers",
    "BadRowsError",
    "CaptionPreset",
    "EncodedQuestions",
    "ImageInputs",
    "NoStatement",
    "PairSplit",
    "Preset",
    "QuestionReport",
    "QuestionSplits",
    "Questions",
    "RefusedImageError",
    "answer_names",
    "check_questions",
    "encode_questions",
    "image_paths",
    "index_distinct",
    "load_easy_vqa",
    "load_easy_vqa_statements",
    "load_images",
    "load_pair_splits",
    "load_pairs",
    "load_questions",
    "load_rows",
    "load_source",
    "load_texts",
    "open_upload",
    "split_names",
    "statement",
]
