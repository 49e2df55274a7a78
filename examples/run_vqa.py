"""Teach a merge of two frozen encoders to answer questions about images: your own folder, or a data set on the Hub.

    python examples/run_vqa.py --context ENCODER --query ENCODER --data DATA --output_dir runs/vqa --do_train --do_eval
    python examples/run_vqa.py examples/recipes/resnet50-bert-scienceqa.yaml

Training, checkpoints and --push_to_hub are those of transformers' Trainer; it evaluates the validation part, and
--do_eval scores the test part. An interrupted training goes on from the last checkpoint in --output_dir.
"""

import json
import logging
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoProcessor, HfArgumentParser, Trainer, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeProcessor
from otmerge_hf.analysis import evaluate_logits
from otmerge_hf.data import Answers, encode_questions, load_questions
from otmerge_hf.encoders import resolve_encoder
from otmerge_hf.features.keys import digest
from otmerge_hf.hub import keep_card
from otmerge_hf.training import AdapterCheckpoints, answer_accuracy, grow_answers, set_stage


def option(help: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class ModelArguments:
    """Which merge: a saved one, or two encoders; and how it learns."""

    model_name_or_path: str | None = option("Saved merge: aligned, by run_alignment.py, or trained.")
    context: str | None = option("Image encoder: folder, Hub name, or efficientnet-lite0.")
    query: str | None = option("Text encoder: folder, Hub name, or minilm-l6.")
    context_tokens: str = option("What is taken of it: cls, pooled, or a hidden layer's index.", "last_hidden_state")
    query_tokens: str = option("Likewise.", "last_hidden_state")
    image_size: int | None = option("Pixels, for the efficientnet-lite encoders.")
    shared_dim: int = option("Width of the shared space of two encoders.", 256)
    grow: bool = option("Fit a linear path first, and keep the fuser if validation gains: for few labels.", False)
    cache_dir: str = option("Where the encoders' features are kept.", "runs/features")
    feature_dtype: str = option("Type in which they are kept; float16 is half as large.", "float32")

    def __post_init__(self) -> None:
        if bool(self.model_name_or_path) == bool(self.context and self.query):
            raise ValueError("give --context and --query, two encoders, or --model_name_or_path, a saved merge")


@dataclass
class DataArguments:
    """Which questions. What is None is found by type and name; docs/questions.md says how."""

    data: str | None = option("Folder with tables, a table, a Hub name, or a preset's name.")
    preset: str | None = option("Columns and splits of a known data set.")
    dataset_config_name: str | None = option("Configuration of a Hub data set.")
    image_column: str | None = option("Column of images or of their paths.")
    question_column: str | None = option("Column of questions; '' if there is none.")
    answer_column: str | None = option("Column of answers.")
    train_split: str | None = option("Split, or slice such as train[:500].")
    validation_split: str | None = option("Likewise; if there is none, 15% of the training images.")
    test_split: str | None = option("Likewise.")
    top_answers: int = option("Keep that many most frequent answers; 0: all.", 0)
    skip_bad: bool = option("Leave out rows with something wrong.", False)
    split_seed: int = option("Of the images held out.", 0)

    def options(self) -> dict[str, Any]:
        """What `load_questions` takes."""
        if not self.data:
            raise ValueError("--data is missing: a folder with tables, a table, a Hub name, or a preset's name")
        given = asdict(self)
        renamed = {"top_answers": "top", "split_seed": "seed", "data": "source", "dataset_config_name": "name"}
        given |= {new: given.pop(old) for old, new in renamed.items()}
        return {name: value for name, value in given.items() if name != "name" or value}


def load_merge(args: ModelArguments, answers: Answers) -> tuple[OTMergeForQuestionAnswering, OTMergeProcessor]:
    labels: dict[str, Any] = answers.config
    if args.model_name_or_path:
        trained = AutoConfig.from_pretrained(args.model_name_or_path).architectures != ["OTMergeModel"]
        model = OTMergeForQuestionAnswering.from_pretrained(args.model_name_or_path, **({} if trained else labels))
        return model, AutoProcessor.from_pretrained(args.model_name_or_path)
    encoders = resolve_encoder(args.context, args.image_size), resolve_encoder(args.query)
    for side in ("context", "query"):
        tokens = str(getattr(args, f"{side}_tokens"))
        labels[f"{side}_tokens"] = int(tokens) if tokens.removeprefix("-").isdecimal() else tokens
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(*encoders, shared_dim=args.shared_dim, **labels)
    return model, OTMergeProcessor.from_encoders_pretrained(*encoders)


def run(model_args: ModelArguments, data_args: DataArguments, args: TrainingArguments) -> None:
    if model_args.grow and args.resume_from_checkpoint:
        raise ValueError("--resume_from_checkpoint is not for --grow, which goes on by itself")
    questions = load_questions(**data_args.options())
    print(questions)
    if args.do_eval and not all(questions.test.answers):
        raise ValueError("--do_eval: rows of the test part have no answer; `otmerge ask --csv` answers such rows")
    set_seed(args.seed)
    model, processor = load_merge(model_args, questions.answers)
    encoding = {"cache_dir": model_args.cache_dir, "batch_size": args.per_device_eval_batch_size}
    encoding |= {"dtype": getattr(torch, model_args.feature_dtype), "progress": not args.disable_tqdm}
    rows = encode_questions(model.to(args.device), processor, questions, **encoding)
    set_stage(model, "both")  # adapters, fuser and answer head learn; the encoders are frozen
    data = {"data_collator": rows.collator, "train_dataset": rows.train, "eval_dataset": rows.validation}
    how = {"compute_metrics": answer_accuracy, "callbacks": [AdapterCheckpoints()]}
    trainer = Trainer(model, args, processing_class=processor, **data, **how)
    if args.do_train and model_args.grow:
        made_of = [asdict(model_args), asdict(data_args), args.to_dict(), rows.train["labels"][:]]
        made_of += [rows.context_store.shards_digest, rows.query_store.shards_digest]
        keep = Path(args.output_dir) / f"_grown-{digest(made_of)[:16]}"  # other settings or rows start anew
        options = {"eval_questions": rows.validation, "processor": processor, "keep": keep}
        grow_answers(model, rows.train, rows.collator, args, **options)  # logs what it kept
    elif args.do_train:
        checkpoint = args.resume_from_checkpoint or get_last_checkpoint(args.output_dir)
        metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
        trainer.log_metrics("train", metrics)
        trainer.save_metrics("train", metrics)
        trainer.save_state()
    if args.do_train:
        trainer.save_model()
    if args.do_eval:
        predicted, test = trainer.predict(rows.test, metric_key_prefix="eval"), questions.test
        found = evaluate_logits(torch.tensor(predicted.predictions), test.answers, questions.answers, test.kinds)
        print(f"\nOn the test part: {found}")
        trainer.save_metrics("eval", predicted.metrics | {"eval_score": found.score})
        (Path(args.output_dir) / "evaluation.json").write_text(json.dumps(found.to_dict(), indent=2) + "\n")
    if args.push_to_hub:
        keep_card(trainer).push_to_hub(tasks="visual-question-answering")


def main() -> None:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("otmerge_hf").setLevel(logging.INFO)
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    files = {"json": parser.parse_json_file, "yaml": parser.parse_yaml_file, "yml": parser.parse_yaml_file}
    read = files.get(sys.argv[1].rpartition(".")[2]) if len(sys.argv) == 2 else None
    try:
        run(*(read(sys.argv[1]) if read else parser.parse_args_into_dataclasses()))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
