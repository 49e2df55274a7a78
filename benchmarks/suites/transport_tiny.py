"""The suite `transport-tiny`: `sinkhorn_batch` on many tiny problems against OTT-JAX under vmap and loops of POT.

Values and gradients in both clouds, at equal accuracy as in [`transport`], with the worst of the problems held to the
bars. One thread, processor time.

    python -m benchmarks run transport-tiny    # about ten minutes
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..runner.cell import Cell, Record
from .transport import EPSILONS, Transport


#: Problems, N, M, D: the tokens of 128 questions and images; 32 of the smallest case of `transport`.
SIZES = ["128x12x49x128", "32x64x64x256"]
NAMES = ("problems", "n", "m", "d")


class TransportTiny(Transport):
    """A cell is a number of problems, their size and an epsilon."""

    name = "transport-tiny"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--sizes", nargs="*", help=f"problems x N x M x D (default {' '.join(SIZES)})")
        parser.add_argument("--epsilons", nargs="*", type=float, default=EPSILONS)

    def is_trial(self, arguments: Namespace) -> bool:
        return arguments.sizes is not None

    def cells(self, arguments: Namespace) -> list[Cell]:
        sizes = [_size(text) for text in arguments.sizes or SIZES]
        return [Cell(self.name, size | {"epsilon": epsilon}) for size in sizes for epsilon in arguments.epsilons]

    def compare(self, **choices: Any) -> Record:
        from .transport_timing import confine

        confine(1)
        from .transport_tiny_rivals import run_case

        return run_case(**choices)

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.write import write_table
        from .transport_report import markdown_tiny

        title = "Many tiny transport problems: time of the others over ours"
        return [write_table(folder, markdown_tiny(records), title)]


def _size(text: str) -> dict[str, int]:
    words = text.split("x")
    if not (len(words) == len(NAMES) and all(word.isdigit() and int(word) for word in words)):
        raise ValueError(f"`sizes` has {text!r}; expected problems, N, M and D such as {SIZES[0]}.")
    return dict(zip(NAMES, map(int, words), strict=True))


SUITE = TransportTiny()
