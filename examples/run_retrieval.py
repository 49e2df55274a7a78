"""Score a saved merge's retrieval on images with captions, both ways; and search the images with texts.

    python examples/run_retrieval.py --model_name_or_path runs/aligned --data PAIRS
    python examples/run_retrieval.py --model_name_or_path runs/aligned --data PAIRS --search "a red circle" "a dog"
    python examples/run_retrieval.py examples/recipes/vit-bert-flickr30k.yaml

The split is held out as run_alignment.py and `otmerge align` hold it out: the same images are scored, by default those
that neither trained on. Every image and text is encoded once, and kept.
"""

import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor, HfArgumentParser

import otmerge_hf  # noqa: F401 -- registers the model and its processor
from otmerge_hf.alignment.result import retrieval_table
from otmerge_hf.data import load_pair_splits
from otmerge_hf.features import embed, encode
from otmerge_hf.metrics import nearest_neighbours, retrieval


def option(help: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class ModelArguments:
    """Which merge, and how it runs."""

    model_name_or_path: str | None = option("Folder or Hub name of a merge: aligned, or one that answers.")
    cache_dir: str = option("Where the encoders' features are kept.", "runs/features")
    batch_size: int = option("Inputs per forward of an encoder.", 64)
    device: str = option("Where the encoders run.", "cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class DataArguments:
    """Which pairs, and what to do with them. What is None is found by type and name."""

    data: str | None = option("Image folder with metadata.csv, parquet or json file or folder, or Hub name.")
    dataset_config_name: str | None = option("Configuration of a Hub data set.")
    part: str = option("Which part is scored: train, validation or test.", "test")
    train_split: str | None = option("Split, or slice such as train[:500].")
    validation_split: str | None = option("Likewise; if there is none, a tenth of the training images.")
    test_split: str | None = option("Likewise.")
    image_column: str | None = option("Column of images.")
    text_column: str | None = option("Column of captions.")
    split_seed: int = option("Of the images held out.", 0)
    search: list[str] = field(default_factory=list, metadata={"help": "Texts that look for images of the part."})
    top_k: int = option("How many images to list.", 5)
    output_dir: str | None = option("Folder for retrieval.json.")

    def __post_init__(self) -> None:
        if self.part not in ("train", "validation", "test"):
            raise ValueError(f"--part is {self.part!r}; expected train, validation or test")
        if self.top_k < 1:
            raise ValueError(f"--top_k is {self.top_k}; expected at least 1")

    def options(self) -> dict[str, Any]:
        """What `load_pair_splits` takes."""
        names = ("train_split", "validation_split", "test_split", "image_column", "text_column")
        options = {name: getattr(self, name) for name in names} | {"source": self.data, "seed": self.split_seed}
        return options | ({"name": self.dataset_config_name} if self.dataset_config_name else {})


@torch.no_grad()
def run(model_args: ModelArguments, data_args: DataArguments) -> None:
    for name, value in (("model_name_or_path", model_args.model_name_or_path), ("data", data_args.data)):
        if not value:
            raise ValueError(f"--{name} is missing; --help says what it takes")
    model = AutoModel.from_pretrained(model_args.model_name_or_path).to(model_args.device).eval()
    processor = AutoProcessor.from_pretrained(model_args.model_name_or_path)
    pairs = load_pair_splits(**data_args.options())[data_args.part]
    print(f"{data_args.part}: {pairs}")
    options = {"cache_dir": model_args.cache_dir, "batch_size": model_args.batch_size}
    images = embed(model, encode(model, processor, "context", pairs.images, **options), "context")
    texts = embed(model, encode(model, processor, "query", pairs.texts, **options), "query")
    scores = retrieval(images, texts, pairs.pairs)
    print(f"\n{retrieval_table(scores, len(images), len(texts))}")
    if data_args.output_dir:
        folder = Path(data_args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        counts = {"images": len(images), "texts": len(texts), "pairs": len(pairs.pairs)}
        (folder / "retrieval.json").write_text(json.dumps({**counts, **scores}, indent=2) + "\n")
    caption = {image: pairs.texts[text] for image, text in reversed(pairs.pairs.tolist())}  # the first of each
    for text in data_args.search:
        inputs = processor(text=[text], return_tensors="pt").to(model.device)
        found = nearest_neighbours(model.get_query_embeds(**inputs), images, min(data_args.top_k, len(images)))
        print(f"\n{text}")
        for score, row in zip(found[0][0].tolist(), found[1][0].tolist(), strict=True):
            picture = pairs.images[row]
            name = picture if isinstance(picture, Path) else f"image {row} of {data_args.part}"
            print(f"  {score:.4f}  {name}  {caption[row]}")


def main() -> None:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("otmerge_hf").setLevel(logging.INFO)
    parser = HfArgumentParser((ModelArguments, DataArguments))
    files = {"json": parser.parse_json_file, "yaml": parser.parse_yaml_file, "yml": parser.parse_yaml_file}
    read = files.get(sys.argv[1].rpartition(".")[2]) if len(sys.argv) == 2 else None
    try:
        run(*(read(sys.argv[1]) if read else parser.parse_args_into_dataclasses()))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
