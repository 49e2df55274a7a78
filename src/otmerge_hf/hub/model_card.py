"""Facts of a merge -> a `huggingface_hub.ModelCard`: metadata that the Hub reads, text that people read."""

import re
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any
from urllib.parse import quote

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..model.checkpoint import TAGS
from ..model.configuration_otmerge import OTMergeConfig
from .facts import CardFacts, CardPicture, EncoderFacts
from .read_alignment import is_alignment, read_alignment
from .read_answers import is_answers, read_answers
from .read_config import start_facts
from .read_demo import is_demo, read_demo
from .run_facts import NOT_RECORDED


MARK = "<!-- Written by otmerge_hf. Delete this line to keep what you change: the next save then leaves the card. -->"
_READERS = ((is_answers, read_answers), (is_alignment, read_alignment), (is_demo, read_demo))
_NOT_STATED = "not stated"
_CITATION = """```bibtex
@software{otmerge_hf,
  title = {otmerge_hf: two frozen encoders merged into one multimodal model by optimal transport}
}
```"""


def make_card(config: OTMergeConfig, results: Mapping[str, Any] | None, name: str) -> ModelCard:
    """Card of a saved merge.

    Args:
        config: Of the saved folder.
        results: Its `results.json`, of `otmerge train`, `otmerge align` or `examples/merge_easy_vqa.py`; None: a short
            card, without any figure of a run.
        name: Of the model, as the card's snippet loads it.

    Raises:
        ValueError: If the results are of something else.

    Example:
        >>> from transformers import BertConfig, ViTConfig
        >>> config = OTMergeConfig.from_encoder_configs(ViTConfig(), BertConfig())
        >>> make_card(config, None, "mine").data.library_name
        'transformers'
    """
    return render(find_facts(config, results, name))


def find_facts(config: OTMergeConfig, results: Mapping[str, Any] | None, name: str) -> CardFacts:
    """What the card of [`make_card`] states."""
    facts = start_facts(config, name)
    if results is None:
        return facts
    for knows, read in _READERS:
        if knows(results):
            return read(facts, results)
    shown = ", ".join(list(results)[:6]) or "nothing"
    raise ValueError(
        f"results hold {shown}; expected those of otmerge train, otmerge align or examples/merge_easy_vqa.py"
    )


def render(facts: CardFacts) -> ModelCard:
    """Card of facts; sections that have nothing to say are left out."""
    facts = replace(facts, license=facts.license or _shared(facts, "license"))
    data = _metadata(facts)
    sections = (
        ("Use", f"```python\n{facts.snippet}```" if facts.snippet else ""),
        ("Encoders", _encoders(facts)),
        ("Data", _lines(facts.data)),
        ("How it was made", _lines(facts.stages)),
        ("Results", "\n\n".join([*map(_table, facts.tables), _lines(facts.measured)]).strip()),
        ("Pictures", "\n\n".join(map(_picture, facts.pictures))),
        ("Compute", _lines(facts.compute)),
        ("Can the adapters be inverted?", _lines(facts.adapters)),
        ("Limits", _lines(facts.limits)),
        ("Licence", _license(facts)),
        ("Citation", _CITATION),
    )
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections if text)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{MARK}\n\n# {facts.name}\n\n{facts.about}\n\n{body}\n")


def _metadata(facts: CardFacts) -> ModelCardData:
    base = [encoder.hub for encoder in facts.encoders if encoder.hub]
    language = facts.language or next((e.language for e in facts.encoders if e.language), None)
    results = [
        EvalResult(
            task_type=facts.task,
            dataset_type=facts.datasets[0] if facts.datasets else _slug(facts.data_name),
            dataset_name=facts.data_name,
            dataset_split="test",
            metric_type=metric.kind,
            metric_name=metric.title,
            metric_value=round(metric.value, 4) if isinstance(metric.value, float) else metric.value,
        )
        for metric in facts.metrics
    ]
    fields: dict[str, Any] = {"base_model_relation": "merge"} if base else {}
    return ModelCardData(
        pipeline_tag=facts.task,
        library_name="transformers",
        base_model=base or None,
        datasets=list(facts.datasets) or None,
        language=language,
        license=facts.license or "unknown",
        tags=list(TAGS),
        metrics=list(dict.fromkeys(metric.kind for metric in facts.metrics)) or None,
        model_name=facts.name,
        eval_results=results or None,
        **fields,
    )


def _shared(facts: CardFacts, field: str) -> str | None:
    """What both encoders have alike; None where one differs or is not known."""
    found = {getattr(encoder, field) for encoder in facts.encoders}
    return found.pop() if len(found) == 1 else None


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split()) or "unknown"


def _lines(lines: tuple[str, ...]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _encoders(facts: CardFacts) -> str:
    head = ("side", "encoder", "revision", "licence", "features")
    rows = tuple(
        (e.side, _linked(e), f"`{e.revision}`" if e.revision else NOT_RECORDED, e.license or _NOT_STATED, e.tokens)
        for e in facts.encoders
    )
    notes = tuple(f"{encoder.name}: {encoder.note}." for encoder in facts.encoders if encoder.note)
    return "\n\n".join(filter(None, [_rows(head, rows), _lines((*notes, *facts.parts))]))


def _linked(encoder: EncoderFacts) -> str:
    return f"[{encoder.name}](https://huggingface.co/{encoder.hub})" if encoder.hub else encoder.name


def _picture(picture: CardPicture) -> str:
    return f"{_plain(picture.title)}:\n\n![{_plain(picture.description)}]({quote(picture.path)})"


def _plain(text: str) -> str:
    """Text of a file on one line, whose signs mean nothing to Markdown or HTML."""
    told = re.sub(r"([\\`*_~#|\[\]])", r"\\\1", escape(" ".join(text.split()), quote=False))
    return re.sub(r"^(\d+(?=[.)] )|(?=[-+] ))", r"\1\\", told)  # or the line would begin a list


def _table(table: Any) -> str:
    return f"{table.title}:\n\n{_rows(table.head, table.rows)}"


def _rows(head: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _license(facts: CardFacts) -> str:
    parts = "; ".join(f"{e.name} {e.license or _NOT_STATED}" for e in facts.encoders)
    return f"Encoders: {parts}. Data: {_NOT_STATED}; look before you ship. The code in a saved folder: Apache-2.0."
