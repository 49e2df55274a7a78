"""A merge and some of its data in, a page about what was merged, what it keeps and what it aligns out."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data.pair_splits import PairSplit
from ..data.questions import Questions
from ..features import FeatureStore, encode
from ..hub.facts import CardFacts, Table
from ..hub.pictures import describe_png
from ..hub.read_config import start_facts
from ..model.modality import IMAGE, SIDES, modality_of
from ..model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergeModel
from ..model.processing_otmerge import OTMergeProcessor
from .figures import new_figure
from .page import Picture, Section, make_page
from .report_adapters import about_adapters
from .report_pairs import about_gap, about_layers, about_retrieval
from .report_trade_off import about_trade_off
from .report_words import about_words


#: Of questions, so many distinct images and texts are encoded to look at the adapters with.
MOST_INPUTS = 256


def write_report(
    output: str | os.PathLike,
    model: OTMergeForQuestionAnswering | OTMergeModel,
    processor: OTMergeProcessor,
    *,
    facts: CardFacts | None = None,
    pairs: PairSplit | None = None,
    questions: Questions | None = None,
    examples: int = 4,
    cache_dir: str | os.PathLike | None = None,
    batch_size: int | None = None,
) -> Path:
    """Write `report.html`, which needs nothing beside itself, and its pictures as PNGs that say what they show.

    The adapters' spectra and reconstruction; on pairs modality gap, retrieval curve, alignment against preservation,
    and layer-by-layer similarity of the encoders; of a few rows the transport plan between words and patches. What
    cannot be shown is listed, with why.

    Args:
        output: Folder, made where it is not there.
        model, processor: The merge.
        facts: What to say of it, as [`hub.facts_of`] reads it from a saved folder; None: what its configuration tells.
        pairs: Images with captions that it was not aligned on.
        questions: What it is asked, with answers or without.
        examples: Rows whose words and patches are shown: of the questions, or of the pairs where there are none.
        cache_dir: Folder where the encoders' features are kept; None keeps none.
        batch_size: Inputs per forward; by default as many as are fast, see [`features.encode`].

    Returns:
        The page.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If pairs or questions are given and the merge looks at no images, or an input cannot be opened.

    Example:
        >>> from transformers import BertConfig, ViTConfig
        >>> from otmerge_hf import OTMergeConfig
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> config = OTMergeConfig.from_encoder_configs(ViTConfig(**small), BertConfig(**small), shared_dim=8)
        >>> write_report(tempfile.mkdtemp(), OTMergeModel(config), None).name  # nothing is encoded: no processor
        'report.html'
    """
    new_figure()  # raises where there is no matplotlib
    base = model if isinstance(model, OTMergeModel) else model.otmerge
    kind = modality_of("context", base.context_encoder)
    if kind is not IMAGE and (pairs or questions):
        given = "pairs" if pairs else "questions"
        raise ValueError(f"{given} of images are what is shown, and the merge looks at {kind.name}; leave them out")
    if pairs and pairs.kind != "images":
        raise ValueError(f"pairs hold {pairs.kind}, and the merge looks at images; give pairs of images")
    model.eval()
    facts = facts or start_facts(model.config, "merge")
    with tempfile.TemporaryDirectory() as scratch:
        options: dict[str, Any] = {"cache_dir": cache_dir or scratch, "batch_size": batch_size, "progress": False}
        stores = _encode(model, processor, pairs, questions, options)
        missing: list[str] = []
        sections = [
            Section("What was merged", _about_merge(facts)),
            Section("What the adapters keep", about_adapters(base, stores, missing)),
        ]
        more: dict[str, Callable[[], tuple[Any, ...]]] = {
            "How the sides lie in the shared space": lambda: about_gap(base, stores, pairs, missing),
            "Retrieval": lambda: about_retrieval(base, stores, pairs, missing),
            "Alignment against preservation": lambda: about_trade_off(base, stores, pairs, missing),
            "Which layers of the encoders are alike": lambda: about_layers(base, processor, pairs, missing),
            "Words and patches": lambda: about_words(model, processor, questions or pairs, examples, missing),
        }
        sections += [Section(title, parts) for title, make in more.items() if (parts := make())]
    sections.append(Section("What could not be shown", (missing or "Everything was shown.",)))
    return _save(Path(output), f"Report on {facts.name}", sections)


def _encode(
    model: OTMergeForQuestionAnswering | OTMergeModel,
    processor: OTMergeProcessor,
    pairs: PairSplit | None,
    questions: Questions | None,
    options: dict[str, Any],
) -> dict[str, FeatureStore]:
    """Features of the pairs, each of which retrieval ranks; else of some questions; else none."""
    if pairs is not None:
        inputs: tuple[Any, Any] = pairs.images, pairs.texts
    elif questions is not None:
        images = range(min(len(questions.images), MOST_INPUTS))
        inputs = [questions.images[place] for place in images], questions.texts[:MOST_INPUTS]
    else:
        return {}
    return {side: encode(model, processor, side, items, **options) for side, items in zip(SIDES, inputs, strict=True)}


def _about_merge(facts: CardFacts) -> tuple[Any, ...]:
    """Encoders, parts, data, stages, every table of results, and what to know of them."""
    rows = tuple((e.side, e.name, e.license or "not stated", e.tokens) for e in facts.encoders)
    encoders = Table("The two encoders", ("side", "encoder", "licence", "features"), rows)
    notes = [f"{encoder.name}: {encoder.note}." for encoder in facts.encoders if encoder.note]
    before = [*notes, *facts.parts, *facts.data, *facts.stages]
    after = [*facts.measured, *facts.compute, *facts.limits]
    return tuple(part for part in (facts.about, encoders, before, *facts.tables, after) if part)


def _save(output: Path, title: str, sections: list[Section]) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    for section in sections:
        for part in section.parts:
            if isinstance(part, Picture):
                (output / part.name).write_bytes(describe_png(part.png, part.caption, part.alt))
    page = output / "report.html"
    lead = "What was merged, what the adapters keep, and what they align. Each picture stands beside its numbers."
    page.write_text(make_page(title, lead, sections), encoding="utf-8")
    return page
