"""The suite `alignment`: how well closed forms align two real encoders, on emoji and on photographs."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..runner.cell import Cell, Place, Record, Suite


# In the order of the report.
PARTS = ("closed", "trained", "flickr8k", "few_pairs", "flickr8k_few", "text_text", "shared", "cost")
_WITH_SEEDS = ("few_pairs", "flickr8k_few", "text_text")
PAIRS = (50, 100, 200, 500, 1000, 2000)  # of flickr8k_few, a cell for each: it is the longest part
VARIABLE = "OTMERGE_DATA"
USUAL, LAST = "efficientnet-lite0", "last_hidden_state"


def data_folder(given: Path | None = None) -> Path | None:
    """Folder of the data sets: the one given, or the environment's; None where neither is named."""
    named = given or os.environ.get(VARIABLE)
    return Path(named) if named else None


class Alignment(Suite):
    """A cell is a part of the study; `trained` is compared with the part `closed`."""

    name = "alignment"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
        parser.add_argument("--emoji", type=Path, help="imagefolder of emoji; by default made from npm packages")
        parser.add_argument("--data", type=Path, help="folder that has flickr8k (default: what OTMERGE_DATA names)")
        parser.add_argument("--seeds", type=int, default=5, help="of the studies with few pairs (default %(default)s)")
        parser.add_argument(
            "--context", default=USUAL, help="image encoder of the part flickr8k (default %(default)s)"
        )
        for side in ("context", "query"):
            parser.add_argument(
                f"--{side}-tokens", nargs="+", default=[LAST], help="of the part flickr8k, as in `otmerge align`"
            )

        parser.add_argument("--refine-seeds", type=int, default=1, help="of the part flickr8k (default %(default)s)")

    def cells(self, arguments: Namespace) -> list[Cell]:
        if arguments.seeds < 2:
            raise ValueError(f"`seeds` is {arguments.seeds}; expected at least 2, for the intervals.")
        data = data_folder(arguments.data)
        if data is not None:
            os.environ[VARIABLE] = str(data.resolve())  # for the workers, which inherit it
        where = {} if arguments.emoji is None else {"emoji": str(arguments.emoji)}
        context_tokens, query_tokens = (
            [int(text) if text.lstrip("-").isdigit() else text for text in tokens]
            for tokens in (arguments.context_tokens, arguments.query_tokens)
        )
        other = {"context": arguments.context, "context_tokens": context_tokens}
        other = {} if other == {"context": USUAL, "context_tokens": [LAST]} else other
        if query_tokens != [LAST]:
            other["query_tokens"] = query_tokens
        of_part: dict[str, list[dict[str, Any]]] = {
            "flickr8k_few": [{"pairs": count} for count in PAIRS],
            "flickr8k": [other | ({"seed": seed} if seed else {}) for seed in range(arguments.refine_seeds)],
        }
        return [
            Cell(self.name, {"part": part} | ({"seeds": arguments.seeds} if part in _WITH_SEEDS else {}) | more)
            for part in PARTS
            if part in arguments.parts and (not part.startswith("flickr8k") or data is not None)
            for more in of_part.get(part, [where])
        ]

    def label(self, cell: Cell) -> str:
        return " ".join(f"{name}={value}" for name, value in cell.choices.items())

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.machine import machine
        from . import alignment_few_pairs, alignment_flickr8k, alignment_flickr8k_few, alignment_parts

        measures = {
            "closed": alignment_parts.closed,
            "trained": alignment_parts.trained,
            "flickr8k": alignment_flickr8k.flickr8k,
            "few_pairs": alignment_few_pairs.few_pairs,
            "flickr8k_few": alignment_flickr8k_few.flickr8k_few,
            "text_text": alignment_few_pairs.text_text,
            "shared": alignment_parts.shared_structure,
            "cost": alignment_parts.cost,
        }
        return {"machine": machine()} | measures[cell.choices["part"]](cell.choices, place)

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.write import write_table
        from .alignment_report import markdown

        title = "Alignment of two encoders on emoji and photographs"
        return [write_table(folder, markdown(records, PARTS), title)]


SUITE = Alignment()
