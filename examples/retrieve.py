"""Search with a saved merge: a text finds images, an image finds captions.

    otmerge align --context ENCODER --query ENCODER --pairs PAIRS --output runs/aligned
    python examples/retrieve.py --model runs/aligned --images PICTURES --query "a red circle" --output found.png
    python examples/retrieve.py --model runs/aligned --image PICTURE.png --texts captions.txt
    python examples/retrieve.py --model runs/heard --audio SOUND.wav --texts captions.txt

Images come from a folder of pictures, or from a data set with a column of images; sounds, of a merge that hears, from
a folder of WAV files. Each is encoded once: the features are kept on disk, so that a second search is quick.
"""

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from transformers import AutoModel, AutoProcessor, HfArgumentParser
from transformers.utils import logging as transformers_logging

import otmerge_hf  # noqa: F401 -- registers the model and its processor
from otmerge_hf.data import load_images, load_texts
from otmerge_hf.features import embed, encode
from otmerge_hf.metrics import nearest_neighbours
from otmerge_hf.model.images import open_image


TILE, CAPTION = 160, 18  # pixels


@dataclass
class Options:
    """What to search, and with what."""

    model: str = field(metadata={"help": "Folder or Hub name of the merge."})
    images: str | None = field(
        default=None, metadata={"help": "Where to look: a folder of pictures, files or a data set."}
    )
    split: str = field(default="train", metadata={"help": "Split of the data set."})
    query: str | None = field(default=None, metadata={"help": "Text that looks for images."})
    image: str | None = field(default=None, metadata={"help": "Picture that looks for captions."})
    audio: str | None = field(default=None, metadata={"help": "WAV file that looks for captions."})
    texts: str | None = field(default=None, metadata={"help": "Text file with one caption a line, or a data set."})
    top_k: int = field(default=8, metadata={"help": "How many to show."})
    output: str = field(default="retrieved.png", metadata={"help": "Where the grid of images goes."})
    cache_dir: str = field(default="runs/features", metadata={"help": "Where features are kept."})


def check(options: Options) -> None:
    if sum(given is not None for given in (options.query, options.image, options.audio)) != 1:
        raise ValueError(
            "give --query TEXT (with --images), or --image PICTURE or --audio SOUND (with --texts): one of the three"
        )
    if options.query is not None and options.images is None:
        raise ValueError("--query needs --images: a folder of pictures, files or a data set")
    if options.query is None and options.texts is None:
        raise ValueError(
            f"--{'image' if options.image else 'audio'} needs --texts: a file with one caption a line, or a data set"
        )
    if options.top_k < 1:
        raise ValueError(f"--top_k is {options.top_k}; expected at least 1")


def find_images(model, processor, options: Options) -> None:
    pictures = load_images(options.images, options.split)
    store = encode(model, processor, "context", pictures, cache_dir=options.cache_dir)
    with torch.no_grad():
        query = model.get_query_embeds(**processor(text=[options.query], return_tensors="pt"))
    scores, found = nearest_neighbours(query, embed(model, store, "context"), min(options.top_k, len(store)))
    tiles = []
    for rank, (score, row) in enumerate(zip(scores[0].tolist(), found[0].tolist(), strict=True), start=1):
        picture = pictures[row]
        name = picture if isinstance(picture, Path) else f"{options.images}, image {row}"
        print(f"{rank:3}  {score:.4f}  {name}")
        tiles.append((picture, f"{rank}.  {score:.3f}"))
    if processor.context_part == "image_processor":
        save_grid(tiles, Path(options.output))
        print(f"Grid: {options.output}")


def find_captions(model, processor, options: Options) -> None:
    captions = load_texts(options.texts)
    store = encode(model, processor, "query", captions, cache_dir=options.cache_dir)
    with torch.no_grad():
        given = {"images": [open_image(options.image)]} if options.image else {"audio": [options.audio]}
        context = model.get_context_embeds(**processor(**given, return_tensors="pt"))
    scores, found = nearest_neighbours(context, embed(model, store, "query"), min(options.top_k, len(store)))
    for rank, (score, row) in enumerate(zip(scores[0].tolist(), found[0].tolist(), strict=True), start=1):
        print(f"{rank:3}  {score:.4f}  {captions[row]}")


def save_grid(tiles: list[tuple[Path | Image.Image, str]], path: Path, columns: int = 4) -> None:
    """Draw pictures, best first, each above its line of text."""
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    grid = Image.new("RGB", (columns * TILE, rows * (TILE + CAPTION)), "white")
    draw = ImageDraw.Draw(grid)
    for place, (source, text) in enumerate(tiles):
        picture = open_image(source)
        scale = (TILE - 8) / max(picture.size)
        picture = picture.resize([max(round(side * scale), 1) for side in picture.size])
        left, top = place % columns * TILE, place // columns * (TILE + CAPTION)
        grid.paste(picture, (left + (TILE - picture.width) // 2, top + (TILE - picture.height) // 2))
        draw.text((left + 6, top + TILE + 2), text, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.save(path)


def main() -> int:
    options = HfArgumentParser(Options).parse_args_into_dataclasses()[0]
    transformers_logging.set_verbosity_error()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        check(options)
        model = AutoModel.from_pretrained(options.model).eval()
        processor = AutoProcessor.from_pretrained(options.model)
        (find_captions if options.query is None else find_images)(model, processor, options)
    except (OSError, ValueError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
