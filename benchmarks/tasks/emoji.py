"""Emoji pictures and their names as features of real encoders, computed once and kept.

In: a folder that `datasets` reads as "imagefolder" with splits train / validation / test and columns name, keywords,
text, category; by default the one that `emoji_packages` makes. Out: pooled features of EfficientNet-Lite0 (ImageNet),
MiniLM-L6 and, on demand, MiniLM-L3 (sentences).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import load_dataset
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from otmerge_hf.encoders import convert_efficientnet_lite, convert_minilm_l3, minilm_l6_path

from . import emoji_packages


SPLITS = ("train", "validation", "test")
VIEWS = ("text", "name", "keywords")
Rows = dict[str, list[dict[str, Any]]]  # by split


@dataclass
class Emoji:
    """Features by split.

    Attributes:
        images: `images[size][split][pooling]`, a list of (N, D) by layer, pooling "mean" or "max".
        texts: `texts[split][view]`, a list of (N, 384) by layer, views "text", "name", "keywords".
        seconds: What computing took, by part; only what was not already on disk.
    """

    images: dict[int, dict[str, dict[str, list[Tensor]]]]
    texts: dict[str, dict[str, list[Tensor]]]
    seconds: dict[str, float]


def load(folder: Path | None, sizes: list[int], cache: Path) -> Emoji:
    """Features of the emoji, computed once and kept below `cache`."""
    rows, seconds = read_rows(folder, cache), {}

    def kept(name: str, compute: Callable[[], Any]) -> Any:
        path = cache / f"{name}.pt"
        if not path.exists():
            start = time.perf_counter()
            torch.save(compute(), path)
            seconds[name] = time.perf_counter() - start
        return torch.load(path)

    texts = kept("texts", lambda: encode_texts(rows, minilm_l6_path()))
    images = {size: kept(f"images-{size}", partial(encode_images, rows, size, cache)) for size in sizes}
    return Emoji(images, texts, seconds)


def load_minilm_l3(folder: Path | None, cache: Path) -> dict[str, dict[str, list[Tensor]]]:
    """The same texts, as a second text encoder sees them: `texts[split][view]`, a list of (N, 384) by layer."""
    path = cache / "texts-minilm-l3.pt"
    if not path.exists():
        encoder = convert_minilm_l3(cache / "minilm-l3")
        torch.save(encode_texts(read_rows(folder, cache), encoder), path)
    return torch.load(path)


def read_rows(folder: Path | None, cache: Path) -> Rows:
    """Rows by split, without flags."""
    if folder is None:
        folder = emoji_packages.emoji_folder(cache)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"No emoji at {folder}: --emoji names an imagefolder; without it one is made from npm packages."
        )
    cache.mkdir(parents=True, exist_ok=True)
    data = load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(cache / "datasets"))
    # A flag's country cannot be guessed from words about it.
    return {split: [row for row in data[split] if row["category"] != "Flags"] for split in SPLITS}


@torch.no_grad()
def encode_texts(rows: Rows, folder: Path) -> dict[str, dict[str, list[Tensor]]]:
    """Mean features of every layer: `[split][view]`, a list of (N, 384) by layer."""
    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(sentences: list[str]) -> list[Tensor]:
        layers = []
        for start in range(0, len(sentences), 128):
            batch = tokenizer(sentences[start : start + 128], padding=True, truncation=True, return_tensors="pt")
            mask = batch["attention_mask"][..., None].float()
            hidden = model(**batch, output_hidden_states=True).hidden_states
            layers.append([(layer * mask).sum(1) / mask.sum(1) for layer in hidden])  # (B, 384) each
        return [torch.cat(layer) for layer in zip(*layers, strict=True)]

    result = {}
    for split, items in rows.items():
        keywords = [(row["keywords"] or row["name"]).replace("|", ", ") for row in items]
        result[split] = {
            "text": encode([row["text"] for row in items]),
            "name": encode([row["name"] for row in items]),
            "keywords": encode(keywords),
        }
    return result


@torch.no_grad()
def encode_images(rows: Rows, size: int, cache: Path) -> dict[str, dict[str, list[Tensor]]]:
    """Pooled features of every map: `[split][pooling]`, a list of (N, D) by layer."""
    folder = convert_efficientnet_lite("efficientnet-lite0", cache / f"efficientnet-lite0-{size}", size)
    model = AutoModel.from_pretrained(folder).eval().to(memory_format=torch.channels_last)
    processor = AutoImageProcessor.from_pretrained(folder)
    result = {}
    for split, items in rows.items():
        mean, largest = [], []
        for start in range(0, len(items), 64):
            pictures = [row["image"].convert("RGB") for row in items[start : start + 64]]
            pixels = processor(pictures, return_tensors="pt")["pixel_values"]
            output = model(pixels.contiguous(memory_format=torch.channels_last), output_hidden_states=True)
            maps = [*output.hidden_states, output.last_hidden_state]  # (B, C, H, W) each
            mean.append([layer.mean((2, 3)) for layer in maps])
            largest.append([layer.amax((2, 3)) for layer in maps])
        result[split] = {
            "mean": [torch.cat(layer) for layer in zip(*mean, strict=True)],
            "max": [torch.cat(layer) for layer in zip(*largest, strict=True)],
        }
    return result


def standardised(by_split: dict[str, Tensor]) -> dict[str, Tensor]:
    """Zero mean and unit variance per dimension, by the training split, as the model does it."""
    mean, std = by_split["train"].mean(0), by_split["train"].std(0).clamp_min(1e-6)
    return {split: (x - mean) / std for split, x in by_split.items()}


def principal(by_split: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    """The leading `width` principal directions of the training split: an affine map, so it folds into a fit."""
    train = by_split["train"].double()
    mean = train.mean(0)
    _, vectors = torch.linalg.eigh((train - mean).T @ (train - mean))
    frame = vectors[:, -width:]
    return {split: ((x.double() - mean) @ frame).float() for split, x in by_split.items()}
