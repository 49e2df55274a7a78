"""A merge as ONNX graphs with a free batch: towers and answerer apart, so that an image is read once."""

import importlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..model.adapters import LinearAdapter
from ..model.encoders import run_encoder
from ..model.modality import SIDES
from ..model.validation import read_side
from .checks import TOLERANCE, affine_map, check_no_sound, new_folder, probe


Named = dict[str, torch.Tensor]


class _Part(nn.Module):
    """A part of a merge with inputs by position, in the order of `names`, as the exporter takes it."""

    def __init__(self, model: Any, names: Iterable[str]):
        super().__init__()
        self.model, self.names = model, list(names)

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.compute(dict(zip(self.names, values, strict=True))).values())

    def compute(self, given: Named) -> Named:
        raise NotImplementedError


class Tower(_Part):
    """One side's inputs -> its encoder's tokens (B, S, D_side), unit embeddings (B, D), the tokens' mask if any."""

    def __init__(self, model: Any, side: str, names: Iterable[str]):
        super().__init__(model, names)
        self.side = side

    def compute(self, given: Named) -> Named:
        encoder, tokens = (
            getattr(self.model, f"{self.side}_encoder"),
            getattr(self.model.config, f"{self.side}_tokens"),
        )
        inputs, mask, *_ = read_side(self.side, encoder, {**given})
        features, mask = run_encoder(encoder, inputs, tokens, mask)
        embeds = nn.functional.normalize(self.model.embed_side(self.side, {}, mask, features).embeds, dim=-1)
        made = {"features": features, "embeds": embeds} | ({} if mask is None else {"features_mask": mask})
        return {f"{self.side}_{name}": value for name, value in made.items()}


class Answerer(_Part):
    """What both towers made, by the model's own names -> logits (B, num_labels)."""

    def compute(self, given: Named) -> Named:
        return {"logits": self.model(**given).logits}


@torch.no_grad()
def export_onnx(model: Any, directory: str | os.PathLike, processor: Any, int8: bool = False) -> Path:
    """Write `context_tower.onnx`, `query_tower.onnx`, `answerer.onnx`, the processor, and `onnx.json` about them.

    A tower makes `context_features` (or `query_...`), their mask if they have one, and `context_embeds`, unit vectors
    for retrieval. The answerer takes features and masks by these names. Batch and number of words are free, the size
    of images is the processor's. Each graph is tried on a batch of 2 and of 1 before anything is said to be done.

    Args:
        model: A merge in float32; one without an answer head has no answerer.
        directory: A new or an empty folder.
        processor: The merge's.
        int8: Write the same graphs with weights of 8 bits into `int8/`: matrix products and word embeddings, a scale a
            column; convolutions stay as they are.

    Returns:
        The folder.

    Raises:
        ImportError: If onnx or onnxruntime is missing.
        ValueError: If the context is a sound, the model is not in float32, or a graph computes another thing.
    """
    folder, base = new_folder(directory), getattr(model, "otmerge", model)
    for library in ("onnx", "onnxruntime"):
        _import(library)
    processor.check_model(model)
    check_no_sound(base)
    if model.dtype != torch.float32:
        raise ValueError(f"the model is in {model.dtype}; expected float32: `model.float()`.")
    model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _plain_adapters(base):
            parts = _write_parts(model, base, folder, processor)
        if int8:
            _quantise(folder, parts)
    except BaseException:
        shutil.rmtree(
            folder, ignore_errors=True
        )  # it was new or empty, and half an export would be in the way of the next try
        raise
    (folder / "onnx.json").write_text(json.dumps(parts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    processor.save_pretrained(folder)
    return folder


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f'this export needs {name}: pip install "otmerge-hf[onnx]" ({error})') from error


@contextmanager
def _plain_adapters(base: Any) -> Iterator[None]:
    """Let `orthogonal` and `monge` adapters be the affine maps that they are: ONNX knows no QR factorisation."""
    before = {f"{side}_adapter": getattr(base, f"{side}_adapter") for side in SIDES}
    try:
        if base.config.adapter_type in ("orthogonal", "monge"):
            for name, adapter in before.items():
                plain = LinearAdapter(adapter.in_dim, adapter.out_dim).to(base.device)
                plain.load_affine(*affine_map(adapter))
                setattr(base, name, plain)
        yield
    finally:
        for name, adapter in before.items():
            setattr(base, name, adapter)


def _write_parts(model: Any, base: Any, folder: Path, processor: Any) -> dict[str, dict[str, Any]]:
    """Write every graph; what each takes and makes, by its name."""
    towers: dict[str, list[Named]] = {}
    parts: dict[str, dict[str, Any]] = {}
    for side in SIDES:
        tries = [probe(base, processor, side, count)[1] for count in (2, 1)]
        towers[side], parts[f"{side}_tower"] = _write(
            folder / f"{side}_tower.onnx", Tower(base, side, tries[0]), tries
        )
    if model is not base:
        made = [context | query for context, query in zip(*towers.values(), strict=True)]
        tries = [{name: value for name, value in each.items() if not name.endswith("embeds")} for each in made]
        _, parts["answerer"] = _write(folder / "answerer.onnx", Answerer(model, tries[0]), tries)
        parts["answerer"]["answers"] = [model.config.id2label[row] for row in range(model.config.num_labels)]
        parts["answerer"]["problem_type"] = model.config.problem_type
    return parts


def _write(path: Path, part: _Part, tries: list[Named]) -> tuple[list[Named], dict[str, Any]]:
    """Trace a part on the first of two tries; what differs in size between them is free.

    Returns:
        What the part makes of each try; and the names, types and sizes of the graph's inputs and outputs.
    """
    part.eval()  # the exporter puts back the mode that it finds, also of the model inside
    made = [part.compute(given) for given in tries]
    sizes: dict[str, list[int | str]] = {}
    for name, value in (tries[0] | made[0]).items():
        words = "context_words" if name.startswith("context") else "query_words"
        other = (tries[1] | made[1])[name].shape
        sizes[name] = [
            size if size == other[axis] else words if axis else "batch" for axis, size in enumerate(value.shape)
        ]
    free = {name: {axis: size for axis, size in enumerate(of) if isinstance(size, str)} for name, of in sizes.items()}
    inputs, outputs = list(tries[0]), list(made[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer: checks of shapes, which hold for every batch
        torch.onnx.export(
            part,
            tuple(tries[0].values()),
            str(path),
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=free,
            dynamo=False,
        )
    session = _import("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for given, expected in zip(tries, made, strict=True):
        found = session.run(None, {name: value.cpu().numpy() for name, value in given.items()})
        for name, value in zip(expected, found, strict=True):
            difference = (torch.from_numpy(value) - expected[name].cpu()).abs().max().item()
            if not difference <= TOLERANCE * max(1.0, expected[name].abs().max().item()):
                raise ValueError(f"the graph {path.name} makes other {name} (largest difference {difference:.2g}).")
    about = {
        name: {"type": str(value.dtype)[6:], "shape": sizes[name]} for name, value in (tries[0] | made[0]).items()
    }
    return made, {"inputs": {name: about[name] for name in inputs}, "outputs": {name: about[name] for name in outputs}}


def _quantise(folder: Path, parts: Iterable[str]) -> None:
    quantization = _import("onnxruntime.quantization")
    (folder / "int8").mkdir()
    before = logging.root.manager.disable
    logging.disable(
        logging.WARNING
    )  # it advises a preparation that these graphs, traced with their shapes, do without
    try:
        for name in parts:
            quantization.quantize_dynamic(
                folder / f"{name}.onnx",
                folder / "int8" / f"{name}.onnx",
                op_types_to_quantize=["MatMul", "Gather"],
                per_channel=True,
                weight_type=quantization.QuantType.QInt8,
            )
    finally:
        logging.disable(before)
