"""The committed cell of `alignment` on Flickr8k with the ViT -> facts of its model card."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from otmerge_hf.encoders import minilm_l6_path
from otmerge_hf.encoders.names import DIGESTS
from otmerge_hf.encoders.vit_onnx import vit_small_config
from otmerge_hf.hub import CardFacts, start_facts
from otmerge_hf.hub.read_alignment import read_alignment
from otmerge_hf.model.configuration_otmerge import OTMergeConfig

from ..runner.cell import Record
from ..runner.records import Records


CONTEXT, QUERY = "vit-small-14", "minilm-l6"
_RUN = "python -m benchmarks run alignment --parts flickr8k --data FOLDER --context vit-small-14 --context-tokens"


def find_cell(results: Path) -> Record:
    """The cell that aligned the ViT and MiniLM-L6, with the tokens that are best on validation.

    Raises:
        ValueError: If there is none.
    """
    known = Records(results / "alignment" / "cells.jsonl").read().values()
    found = [record for record in known if record["settings"].get("context") == CONTEXT]
    if not found:
        raise ValueError(f"{results}/alignment holds no cell of flickr8k with {CONTEXT}; run: {_RUN} cls")
    return max(found, key=lambda record: record["result"]["validation"]["mean_recall@1"])


def merge_config(found: dict[str, Any]) -> OTMergeConfig:
    """Configuration of the merge that the cell measured; the ViT's package need not be there."""
    config = OTMergeConfig.from_encoder_configs(
        vit_small_config(),
        AutoConfig.from_pretrained(minilm_l6_path()),
        context_tokens=found["tokens"]["context"],
        query_tokens=found["tokens"]["query"],
        adapter_type="linear",
        shared_dim=found["candidates"][0]["shared_dim"],
    )
    config.encoder_sources = {"context": {"digest": DIGESTS[CONTEXT]}, "query": {"digest": DIGESTS[QUERY]}}
    config.architectures = ["OTMergeModel"]  # as a saved one has it
    return config


def retrieval_card(results: Path, name: str) -> CardFacts:
    """Retrieval on Flickr8k by a ViT and MiniLM-L6.

    Raises:
        ValueError: If the cell is missing.
    """
    record = find_cell(results)
    found: dict[str, Any] = record["result"]
    tokens = found["tokens"]["context"]
    command = f"otmerge align --context {CONTEXT} --context-tokens {tokens} --query {QUERY} --pairs FOLDER/flickr8k"
    settings = found["settings"] | {"command": f"{command} --refine --output runs/otmerge-vit-bert"}
    facts = read_alignment(start_facts(merge_config(found), name), found | {"settings": settings})
    return replace(
        facts,
        data_name="Flickr8k",
        data=(
            *facts.data,
            "Photographs as a copy has them that was squashed to 224 x 224 pixels; five captions each; the official "
            "split.",
        ),
        measured=(
            *facts.measured,
            f"Measured by: `{_RUN} {tokens}`",
            "The measured model is not published; the first command makes such a one. Features were at hand, so their "
            "time is not counted below.",
        ),
        limits=(
            *facts.limits,
            "Photographs of people and animals with one kind of English caption: all it was aligned on.",
        ),
    )
