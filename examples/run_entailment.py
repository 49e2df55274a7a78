"""Teach a merge whether a statement is true of an image (entailment, neutral, contradiction), or any such classes.

    python examples/run_entailment.py --context ENCODER --query ENCODER --data DATA --output_dir runs/ve --do_train
    python examples/run_entailment.py examples/recipes/vit-bert-snli-ve.yaml

For rows of image, statement and class: SNLI-VE and e-SNLI-VE with three, Hateful Memes with two. What the statements
say alone is scored beside the merge. A linear path is fitted first, and the fuser is kept as far as validation gains:
start from an aligned merge, or the image hardly helps. The same command goes on after an interruption.
"""

import json
import logging
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoProcessor, HfArgumentParser, Trainer, TrainingArguments, set_seed

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeProcessor
from otmerge_hf.analysis import evaluate_logits
from otmerge_hf.data import Answers, EncodedQuestions, QuestionSplits, encode_questions, load_questions
from otmerge_hf.encoders import resolve_encoder
from otmerge_hf.features import mean_features
from otmerge_hf.features.keys import digest
from otmerge_hf.hub import keep_card
from otmerge_hf.training import grow_answers
from otmerge_hf.training.controls import most_frequent, words_alone


def option(help: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class ModelArguments:
    """Which merge: a saved one, or two encoders."""

    model_name_or_path: str | None = option("Saved merge: aligned, by run_alignment.py, or trained.")
    context: str | None = option("Image encoder: folder, Hub name, or efficientnet-lite0.")
    query: str | None = option("Text encoder: folder, Hub name, or minilm-l6.")
    context_tokens: str = option("What is taken of it: cls, pooled, or a hidden layer's index.", "last_hidden_state")
    query_tokens: str = option("Likewise.", "last_hidden_state")
    cache_dir: str = option("Where the encoders' features are kept.", "runs/features")
    feature_dtype: str = option("Type in which they are kept; float16 is half as large.", "float32")

    def __post_init__(self) -> None:
        if bool(self.model_name_or_path) == bool(self.context and self.query):
            raise ValueError("give --context and --query, two encoders, or --model_name_or_path, a saved merge")


@dataclass
class DataArguments:
    """Which statements. What is None is found by type and name; docs/questions.md says how."""

    data: str | None = option("Folder with tables, a table, or a Hub name.")
    dataset_config_name: str | None = option("Configuration of a Hub data set.")
    image_column: str | None = option("Column of images or of their paths.")
    question_column: str | None = option("Column of statements.")
    answer_column: str | None = option("Column of classes.")
    train_split: str | None = option("Split, or slice such as train[:500].")
    validation_split: str | None = option("Likewise; if there is none, 15% of the training images.")
    test_split: str | None = option("Likewise.")
    skip_bad: bool = option("Leave out rows with something wrong.", False)
    split_seed: int = option("Of the images held out.", 0)

    def options(self) -> dict[str, Any]:
        """What `load_questions` takes."""
        if not self.data:
            raise ValueError("--data is missing: a folder with tables, a table, or a Hub name")
        given = asdict(self)
        renamed = {"split_seed": "seed", "data": "source", "dataset_config_name": "name"}
        given |= {new: given.pop(old) for old, new in renamed.items()}
        return {name: value for name, value in given.items() if name != "name" or value}


def load_merge(args: ModelArguments, answers: Answers) -> tuple[OTMergeForQuestionAnswering, OTMergeProcessor]:
    labels: dict[str, Any] = answers.config
    if args.model_name_or_path:
        trained = AutoConfig.from_pretrained(args.model_name_or_path).architectures != ["OTMergeModel"]
        model = OTMergeForQuestionAnswering.from_pretrained(args.model_name_or_path, **({} if trained else labels))
        return model, AutoProcessor.from_pretrained(args.model_name_or_path)
    encoders = resolve_encoder(args.context), resolve_encoder(args.query)
    for side in ("context", "query"):
        tokens = str(getattr(args, f"{side}_tokens"))
        labels[f"{side}_tokens"] = int(tokens) if tokens.removeprefix("-").isdecimal() else tokens
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(*encoders, **labels)
    return model, OTMergeProcessor.from_encoders_pretrained(*encoders)


def controls(rows: EncodedQuestions, questions: QuestionSplits) -> dict[str, float]:
    """Score on the test part of what needs no image: the most frequent class, and a linear model of the statements."""
    means, answers, true = mean_features(rows.query_store), questions.answers, questions.test.answers
    train, validation, (test, _) = (
        (means[p["query_features"][:]], torch.tensor(p["labels"][:])) for p in (rows.train, rows.validation, rows.test)
    )
    said = {
        "most frequent class": most_frequent(train[1], len(true), len(answers.names)),
        "statements only, linear": words_alone(train, validation, test, len(answers.names)),
    }
    return {name: evaluate_logits(logits, true, answers).score for name, logits in said.items()}


def run(model_args: ModelArguments, data_args: DataArguments, args: TrainingArguments) -> None:
    if args.resume_from_checkpoint:
        raise ValueError("--resume_from_checkpoint is not needed: the same command goes on by itself")
    questions = load_questions(**data_args.options())
    print(questions)
    if args.do_eval and not all(questions.test.answers):
        raise ValueError("--do_eval: rows of the test part have no class; `otmerge ask --csv` answers such rows")
    set_seed(args.seed)
    model, processor = load_merge(model_args, questions.answers)
    encoding = {"cache_dir": model_args.cache_dir, "batch_size": args.per_device_eval_batch_size}
    encoding |= {"dtype": getattr(torch, model_args.feature_dtype), "progress": not args.disable_tqdm}
    rows = encode_questions(model.to(args.device), processor, questions, **encoding)
    trainer = Trainer(model, args, rows.collator, processing_class=processor)
    if args.do_train:
        made_of = [asdict(model_args), asdict(data_args), args.to_dict(), rows.train["labels"][:]]
        made_of += [rows.context_store.shards_digest, rows.query_store.shards_digest]
        keep = Path(args.output_dir) / f"_grown-{digest(made_of)[:16]}"  # other settings or rows start anew
        options = {"eval_questions": rows.validation, "processor": processor, "keep": keep}
        grow_answers(model, rows.train, rows.collator, args, **options)  # logs what it kept
        trainer.save_model()
    if args.do_eval:
        logits = torch.tensor(trainer.predict(rows.test).predictions)
        found = evaluate_logits(logits, questions.test.answers, questions.answers, questions.test.kinds)
        scores = controls(rows, questions) | {"merged": found.score}
        print(f"\nOn the test part: {found}\n", *(f"{name:26}{score:.4f}" for name, score in scores.items()), sep="\n")
        (Path(args.output_dir) / "evaluation.json").write_text(
            json.dumps(found.to_dict() | {"scores": scores}, indent=2)
        )
    if args.push_to_hub:
        keep_card(trainer).push_to_hub()


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
