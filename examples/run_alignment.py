"""Align two frozen encoders on images with captions: in closed form, then by a training with loss terms if asked for.

    python examples/run_alignment.py --context ENCODER --query ENCODER --data PAIRS --output_dir runs/aligned --do_eval
    python examples/run_alignment.py examples/recipes/vit-bert-cc3m.yaml

Without --do_train the merge is the best closed form. With it the --loss_terms (docs/losses.md) train the adapters on
from there, under transformers' Trainer; an interrupted training goes on from the last checkpoint in --output_dir. The
merge retrieves (run_retrieval.py), and the other scripts start from it (--model_name_or_path).
"""

import logging
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from datasets import Dataset
from transformers import HfArgumentParser, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from otmerge_hf import training
from otmerge_hf.alignment import align_encoders
from otmerge_hf.alignment.choice import FIT_NAMES
from otmerge_hf.alignment.result import retrieval_table
from otmerge_hf.data import load_pair_splits
from otmerge_hf.features import embed, encode, mean_features
from otmerge_hf.hub import keep_card
from otmerge_hf.metrics import retrieval
from otmerge_hf.training.refining import RowCollator, join_rows


TERMS = {
    "contrastive": training.ContrastiveLossCallback,
    "gromov": training.GromovLossCallback,
    "klot": training.KLOTLossCallback,
    "mmd": training.MMDLossCallback,
    "paired": training.PairedLossCallback,
    "prototype": training.PrototypeLossCallback,
    "sinkhorn": training.SinkhornLossCallback,
    "structure": training.StructureLossCallback,
    "variance": training.VarianceLossCallback,
}


def option(help: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class ModelArguments:
    """Which encoders, and how they are aligned."""

    context: str | None = option("Image encoder: folder, Hub name, or efficientnet-lite0.")
    query: str | None = option("Text encoder: folder, Hub name, or minilm-l6.")
    context_tokens: str = option("What is taken of it: cls, pooled, or a hidden layer's index.", "last_hidden_state")
    query_tokens: str = option("Likewise.", "last_hidden_state")
    image_size: int | None = option("Pixels, for the efficientnet-lite encoders.")
    fit: str = option(f"Closed form: {', '.join(FIT_NAMES)}.", "auto")
    shared_dim: int | None = option("Width of the shared space; for a fuser later a multiple of 8. Else: the best.")
    loss_terms: str = option(f"Of --do_train, as 'klot=0.1 contrastive': {', '.join(TERMS)}.", "contrastive")
    cache_dir: str = option("Where the encoders' features are kept.", "runs/features")

    def weights(self) -> dict[str, float]:
        """Weight of each loss term, by name."""
        found = {}
        for term in self.loss_terms.split():
            name, _, weight = term.partition("=")
            if name not in TERMS or not (weight or "1").replace(".", "", 1).isdecimal():
                raise ValueError(f"--loss_terms has {term!r}; expected NAME or NAME=WEIGHT of {', '.join(TERMS)}")
            found[name] = float(weight or 1)
        return found


@dataclass
class DataArguments:
    """Which pairs. What is None is found by type and name."""

    data: str | None = option("Image folder with metadata.csv, parquet or json file or folder, or Hub name.")
    dataset_config_name: str | None = option("Configuration of a Hub data set.")
    data_files: str | None = option("Only the files of this pattern: all of them to train on.")
    train_split: str | None = option("Split, or slice such as train[:500].")
    validation_split: str | None = option("Likewise; if there is none, a tenth of the training images.")
    test_split: str | None = option("Likewise.")
    image_column: str | None = option("Column of images.")
    text_column: str | None = option("Column of captions.")
    split_seed: int = option("Of the images held out.", 0)


def load_splits(args: DataArguments) -> dict[str, Any]:
    given = {name: value for name, value in vars(args).items() if value is not None}
    renamed = {"data": "source", "dataset_config_name": "name", "split_seed": "seed"}
    return load_pair_splits(**{renamed.get(name, name): value for name, value in given.items()})


def run(model_args: ModelArguments, data_args: DataArguments, args: TrainingArguments) -> None:
    encoders = {"context": model_args.context, "query": model_args.query}
    if missing := [name for name, value in (encoders | {"data": data_args.data}).items() if not value]:
        raise ValueError(f"--{missing[0]} is missing; --help says what it takes")
    weights = model_args.weights()
    splits = load_splits(data_args)
    print("\n".join(f"{name}: {split}" for name, split in splits.items()))
    options = {name: getattr(model_args, name) for name in ("image_size", "fit", "shared_dim", "cache_dir")}
    for side in encoders:
        tokens = str(getattr(model_args, f"{side}_tokens"))
        options[f"{side}_tokens"] = [int(tokens) if tokens.removeprefix("-").isdecimal() else tokens]
    options |= {"batch_size": args.per_device_eval_batch_size, "device": args.device, "seed": args.seed}
    # a fit made again on the validation pairs too would make them no judge of the training
    result = align_encoders(**encoders, splits=splits, refit=not args.do_train, **options)
    print(f"\n{result}")

    model = result.model.to(args.device)
    read = partial(encode, model, result.processor, **{name: options[name] for name in ("cache_dir", "batch_size")})
    stores = {n: {"context": read("context", s.images), "query": read("query", s.texts)} for n, s in splits.items()}
    means = {n: (*map(mean_features, stores[n].values()), splits[n].pairs) for n in ("train", "validation")}
    features, columns = join_rows(model, means)  # linear adapters: a mean of tokens stands for the tokens
    rows = {name: Dataset.from_dict(values) for name, values in columns.items()}
    needs = {"klot": {"teacher": result.fit, "standardized": True}}
    terms = [TERMS[name](weight, **needs.get(name, {})) for name, weight in weights.items()]
    data = {"data_collator": RowCollator(features), "train_dataset": rows["train"], "eval_dataset": rows["validation"]}
    data |= {"callbacks": [*terms, training.AdapterCheckpoints()]}
    training.set_stage(model, "align", terms)
    trainer = Trainer(model, args, processing_class=result.processor, **data)
    result.save(args.output_dir)
    if args.do_train:
        checkpoint = args.resume_from_checkpoint or get_last_checkpoint(args.output_dir)
        trainer.save_metrics("train", training.prioritize(trainer).train(resume_from_checkpoint=checkpoint).metrics)
        trainer.save_state()
        trainer.save_model()
    if args.do_eval:
        scores = retrieval(*(embed(model, store, s) for s, store in stores["test"].items()), splits["test"].pairs)
        print(f"\n{retrieval_table(scores, *map(len, stores['test'].values()))}")
        trainer.save_metrics("eval", {f"eval_{name}": value for name, value in scores.items()})
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
