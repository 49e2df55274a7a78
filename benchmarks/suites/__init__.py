"""The benchmarks: one table; a suite's module is imported when [`get_suite`] asks for it."""

from importlib import import_module
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from ..runner.cell import Suite


#: Name -> what it measures, in a line.
SUITES = {
    "easy-vqa": "every method on easy-VQA: accuracy over seeds, compute, memory, latency",
    "photographs": "entailment and questions about real photographs, from a folder of the user's; with controls",
    "own-data": "`otmerge train` on tables of questions beside folders of images; with controls",
    "alignment": "closed forms and trained heads on emoji pictures and their names: retrieval with many or few pairs",
    "speech": "spoken captions find their written form, by a voice not heard before: Whisper's encoder and MiniLM",
    "forecast": "recall as `alignment.forecast` says it from few pairs, beside what is measured",
    "transport": "the Sinkhorn solver against geomloss, POT and OTT-JAX at equal accuracy: ratios of time",
    "transport-tiny": "many tiny transport problems in one call against OTT-JAX under vmap and loops of POT: ratios",
    "inference": "one forward of the demonstration's merge, split into the encoders and the rest",
    "explanations": "heat on the shape that an answer is about: attention, plan, cosines, occlusion",
    "zoo": "tiny models of every family in pairs: merged, trained a step, saved, loaded, asked; what differs and why",
    "preservation": "what is left of each encoder's own abilities after an adapter and back, beside retrieval",
    "feature-extraction": "features of texts and photographs against a bare loop over the same encoder",
    "int8": "a trained merge by onnxruntime, in float32 and with weights of 8 bits: accuracy and size",
    "scaling": "features shared by two ranks against one process; a batch out of a store of ten million rows",
    "vqa-accuracy": "the official VQA accuracy against a plain loop: ratio of time",
    "shared-contexts": "an epoch of questions that share photographs: adapted for each question, or once",
    "trainer-overhead": "an epoch under the stock Trainer against a bare loop over the same modules",
}


def get_suite(name: str) -> "Suite":
    """Import a suite; `_` may stand for `-`.

    Raises:
        ValueError: If there is no such suite.

    Example:
        >>> get_suite("trainer_overhead").name
        'trainer-overhead'
    """
    name = name.replace("_", "-")
    if name not in SUITES:
        raise ValueError(f"`suite` is {name!r}; expected one of {', '.join(SUITES)}.")
    found: Suite = import_module(f"{__name__}.{name.replace('-', '_')}").SUITE
    return found
