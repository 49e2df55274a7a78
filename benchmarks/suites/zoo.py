"""The suite `zoo`: tiny models of every family in pairs, through what the README promises of any two encoders.

    python -m benchmarks run zoo                             # about 240 pairs, half an hour on one core
    python -m benchmarks run zoo --contexts vit whisper      # of some, into runs/
    python -m benchmarks report benchmarks/results/zoo --document docs/encoders.md

Models are built from configurations, with random weights; nothing is downloaded. A pair is merged from two folders,
and each check is a column: a forward (`forward`), rows alone as in a padded batch (`alone`), a training step (`step`),
saving and loading (`reload`), features computed before (`cached`), raw inputs through the saved processor and the
pipeline (`processor`), a load without the package (`remote`), and the encoders taken out again (`unmerge`).
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ..runner.cell import Cell, Place, Record, Suite
from .zoo_families import AUDIO, OTHER, VISION
from .zoo_texts import TEXT


QUERIES = 4  # text encoders beside each encoder of images or sounds


class Zoo(Suite):
    """A cell is an encoder that is looked at, and the text encoders that it is merged with."""

    name = "zoo"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--contexts", nargs="+", metavar="FAMILY", help=f"of {', '.join(pairs())}")

    def is_trial(self, arguments: Namespace) -> bool:
        return arguments.contexts is not None

    def cells(self, arguments: Namespace) -> list[Cell]:
        table = pairs()
        for name in arguments.contexts or ():
            if name not in table:
                raise ValueError(f"`contexts` has {name!r}; expected some of {', '.join(table)}.")
        return [Cell(self.name, {"context": name, "queries": table[name]}) for name in arguments.contexts or table]

    def label(self, cell: Cell) -> str:
        return f"{cell.choices['context']} with {', '.join(cell.choices['queries'])}"

    def measure(self, cell: Cell, place: Place) -> Record:
        import torch
        import transformers

        from ..runner.measure import silence_transformers
        from .zoo_pair import check_pairs

        silence_transformers()
        found = check_pairs(cell.choices["context"], cell.choices["queries"])
        return {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}, "pairs": found}

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.write import write_table
        from .zoo_report import markdown

        return [write_table(folder, markdown(records), "Encoders that can be merged")]


def pairs() -> dict[str, list[str]]:
    """Every family as context, and the families of texts beside it: so chosen that each meets images and sounds."""
    found: dict[str, list[str]] = {}
    texts = list(TEXT)
    for kind in (VISION, AUDIO):
        for place, name in enumerate(kind):
            found[name] = [texts[(3 * place + 7 * k) % len(texts)] for k in range(QUERIES)]
    # in the place of the context, a model of images and texts is its image half
    alone = [name for name in texts if "text_config" not in TEXT[name].config]
    for place in range(len(texts)):
        found.setdefault(alone[place % len(alone)], []).append(texts[(place + 5) % len(texts)])
    return found | {name: [texts[0]] for name in OTHER}


SUITE = Zoo()
