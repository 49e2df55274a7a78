"""A real merge in seconds: EfficientNet-Lite0 and MiniLM-L6, aligned by CCA, taught 2,000 questions of easy-VQA.

`python -m tests.space.small_merge FOLDER` saves it.
"""

import sys
import tempfile

from transformers import TrainingArguments, set_seed

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeProcessor
from otmerge_hf.alignment import CCA
from otmerge_hf.data import encode_questions, image_paths, index_distinct, load_easy_vqa_statements, load_questions
from otmerge_hf.encoders import resolve_encoder
from otmerge_hf.features import encode, mean_features
from otmerge_hf.training import grow_answers


def save_small_merge(folder, questions=2_000):
    set_seed(0)
    encoders = resolve_encoder("efficientnet-lite0", 64), resolve_encoder("minilm-l6")
    asked = load_questions("easy-vqa", train_split=f"train[:{questions}]", test_split="test[:100]")
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(
        *encoders, context_tokens=11, adapter_type="linear", shared_dim=64, **asked.answers.config
    )
    processor = OTMergeProcessor.from_encoders_pretrained(*encoders)
    pairs = load_easy_vqa_statements("train", affirmative_only=True).select(range(questions))
    images, image_rows = index_distinct(pairs["image_id"])
    texts, text_rows = index_distinct(pairs["statement"])
    files = [image_paths("train")[image] for image in images]
    with tempfile.TemporaryDirectory() as scratch:
        options = {"cache_dir": scratch, "progress": False}
        rows = encode_questions(model, processor, asked, **options)
        sides = (
            mean_features(encode(model.otmerge, processor, side, inputs, **options))
            for side, inputs in (("context", files), ("query", texts))
        )
        fit = CCA(shared_dim=64).fit(*sides, list(zip(image_rows, text_rows, strict=True)))
        model.otmerge.load_alignment(fit)
        arguments = TrainingArguments(
            f"{scratch}/trainer", num_train_epochs=1, per_device_train_batch_size=64, learning_rate=1e-3,
            save_strategy="no", report_to="none", dataloader_pin_memory=False, disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        grow_answers(model, rows.train, rows.collator, arguments, eval_questions=rows.validation, processor=processor)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    save_small_merge(sys.argv[1])
