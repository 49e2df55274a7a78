"""Model cards: a merge's configuration and results in, a README with valid metadata out."""

from .facts import CardFacts, Metric, Table
from .model_card import make_card, render
from .read_config import start_facts
from .write import facts_of, keep_card, write_card, write_missing_card


__all__ = [
    "CardFacts",
    "Metric",
    "Table",
    "facts_of",
    "keep_card",
    "make_card",
    "render",
    "start_facts",
    "write_card",
    "write_missing_card",
]
