"""A merge's shared embeddings as a folder of sentence-transformers: its `encode` gives what the merge gives."""

import copy
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..model.modality import IMAGE, SIDES, modality_of
from .checks import TOLERANCE, affine_map, check_no_sound, new_folder, probe


def export_sentence_transformers(
    model: Any, directory: str | os.PathLike, processor: Any, sides: Sequence[str] = SIDES
) -> Path:
    """Write a folder for `SentenceTransformer(folder)`, whose `encode` gives the merge's normalised embeddings.

    Encoder, pooling, and the adapter with the standardisation folded in become their modules `Transformer`, `Pooling`
    and `Dense`; with both sides a `Router` sends texts and pictures (RGB, as PIL opens them) to their own. With two
    sides of text, `encode_query` and `encode_document` tell them apart, and `encode` takes a query. What was written
    is tried on two inputs a side before it is kept.

    Args:
        model: A merge, with an answer head or without; the head is left out.
        directory: A new or an empty folder.
        processor: The merge's.
        sides: `"context"`, `"query"` or both.

    Returns:
        The folder.

    Raises:
        ImportError: If sentence-transformers is missing.
        ValueError: If their modules cannot express a side (an adapter `coupling`, sounds, joined layers), or compute
            another thing of its encoder.
    """
    base, folder = getattr(model, "otmerge", model), new_folder(directory)
    if not sides or not set(sides) <= set(SIDES):
        raise ValueError(f"`sides` is {sides!r}; expected one or both of {', '.join(SIDES)}.")
    library = _library()
    processor.check_model(model)
    if "context" in sides:
        check_no_sound(base)
    for side in sides:
        if "+" in str(tokens := getattr(base.config, f"{side}_tokens")):
            raise ValueError(
                f"`{side}_tokens` is {tokens}: their Transformer hands out one hidden layer, not several joined."
            )
    if (kind := base.config.adapter_type) not in ("linear", "mlp", "monge", "orthogonal"):
        raise ValueError(
            f"an adapter of type `{kind}` is no chain of their Dense modules; expected `linear` or `mlp`."
        )
    with tempfile.TemporaryDirectory() as temporary:
        encoders = model.unmerge(temporary, processor)
        try:
            modules = {side: _modules(library, base, side, encoders[side]) for side in sides}
            made = library.SentenceTransformer(
                modules=[*_join(library, base, modules), library.Normalize()],
                device=str(model.device),
                similarity_fn_name="cosine",
            )
            differences = {side: _difference(made, base, processor, side) for side in sides}
        except (AttributeError, KeyError, OSError, RuntimeError, TypeError) as error:
            names = " and ".join(f"`{getattr(base, f'{side}_encoder').config.model_type}`" for side in sides)
            raise ValueError(f"sentence-transformers does not run the encoders {names}: {error}") from error
        for side, difference in differences.items():
            if not difference <= (TOLERANCE if model.dtype == torch.float32 else 100 * TOLERANCE):
                kind = getattr(base, f"{side}_encoder").config.model_type
                raise ValueError(
                    f"sentence-transformers makes other embeddings of the {side} encoder, a `{kind}` (largest "
                    f"difference {difference:.2g}); pass `sides` without {side!r}."
                )
        made.save_pretrained(str(folder), create_model_card=False)
    return folder


def _library() -> Any:
    try:
        import sentence_transformers
        from sentence_transformers.sentence_transformer import modules
    except ImportError as error:
        wanted = 'pip install "otmerge-hf[sentence-transformers]"'
        raise ImportError(f"this export needs sentence-transformers 5.4.1 or newer: {wanted} ({error})") from error
    names = ("Dense", "Normalize", "Pooling", "Router", "Transformer")
    parts = {name: getattr(modules, name) for name in names}
    return type("library", (), {**parts, "SentenceTransformer": sentence_transformers.SentenceTransformer})


@torch.no_grad()
def _modules(library: Any, base: Any, side: str, folder: Path) -> list[nn.Module]:
    """Their modules from input to shared embedding.

    An affine map commutes with the mean of tokens, and follows it; the bend of an `mlp` does not, and stands before.
    """
    tokens = getattr(base.config, f"{side}_tokens")
    adapter = getattr(base, f"{side}_adapter")
    output = {"cls": "last_hidden_state", "pooled": "pooler_output"}.get(tokens, tokens)
    pooled, name = tokens == "pooled", "sentence_embedding" if tokens == "pooled" else "token_embeddings"
    transformer = library.Transformer(
        str(folder),
        modality_config={
            "image" if modality_of(side, getattr(base, f"{side}_encoder")) is IMAGE else "text": {
                "method": "forward",
                "method_output_name": ["hidden_states", output] if isinstance(output, int) else output,
            }
        },
        module_output_name=name,
    )
    if base.config.adapter_type == "mlp":
        first, bend, last = copy.deepcopy(adapter.map).double()
        before = [_dense(library, *_fold(base, side, first.weight, first.bias), bend, name)]
        weight, bias = last.weight, last.bias
    else:
        before = []
        weight, bias = _fold(base, side, *affine_map(adapter))
    pooling = [] if pooled else [library.Pooling(weight.shape[1], "cls" if tokens == "cls" else "mean")]
    return [transformer, *before, *pooling, _dense(library, weight, bias, nn.Identity(), "sentence_embedding")]


def _fold(base: Any, side: str, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The map of raw features that is this one of standardised ones."""
    standardizer = getattr(base, f"{side}_standardizer")
    if not base.config.standardize:
        return weight, bias
    weight = weight / standardizer.std.to(weight)
    return weight, bias - weight @ standardizer.mean.to(weight)


def _dense(library: Any, weight: torch.Tensor, bias: torch.Tensor, bend: nn.Module, name: str) -> nn.Module:
    dense = library.Dense(weight.shape[1], weight.shape[0], activation_function=bend, module_input_name=name)
    dense.linear.load_state_dict({"weight": weight, "bias": bias})
    return dense


def _join(library: Any, base: Any, modules: dict[str, list[nn.Module]]) -> list[nn.Module]:
    if len(modules) == 1:
        return next(iter(modules.values()))
    if modality_of("context", base.context_encoder) is IMAGE:
        routes = ("image", "text")
        ways: dict[tuple, str] = {(None, "image"): "image", (None, "text"): "text"}
    else:
        routes, ways = ("document", "query"), {("document", None): "document", (None, None): "query"}
    parts = dict(zip(routes, (modules[side] for side in SIDES), strict=True))
    return [library.Router(parts, default_route=routes[1], route_mappings=ways)]


@torch.no_grad()
def _difference(made: Any, base: Any, processor: Any, side: str) -> float:
    """Largest difference between an entry of their embeddings and of ours."""
    inputs, batch = probe(base, processor, side)
    ours = getattr(base, f"get_{side}_embeds")(**batch)
    encode = made.encode_query if side == "query" else made.encode_document
    theirs = encode(inputs, convert_to_tensor=True, show_progress_bar=False)
    return (theirs.float() - nn.functional.normalize(ours, dim=-1).float()).abs().max().item()
