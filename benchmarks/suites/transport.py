"""The suite `transport`: the Sinkhorn solver against geomloss, POT and OTT-JAX, at equal accuracy.

Every library runs at its cheapest setting whose value is within 1e-4 and whose gradient in x is within 1e-2 of POT in
float64; ours runs at its defaults in every case. A case is a process of its own, confined to as many cores as it has
threads. Only ratios mean anything: they are other library / ours.

    python -m benchmarks run transport            # everything: about an hour on two cores
    python -m benchmarks run transport --quick    # N <= 256, one thread, into runs/: a few minutes
"""

import itertools
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..runner.cell import Cell, Place, Record, Suite


SIZES = [(64, 256), (256, 256), (256, 768), (1024, 512), (4096, 256)]
EPSILONS = [0.05, 0.01]
LIMIT = 15.0  # seconds a call of another library may take; more expensive settings are not tried
MEMORY = {"measure": "memory", "n": 4096, "d": 256, "epsilon": 0.01}
PACKAGES = ("torch", "geomloss", "POT", "ott-jax", "jax", "numpy")


class Transport(Suite):
    """A cell is a size, an epsilon and a number of threads; one more measures our memory."""

    name = "transport"
    has_threads = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--quick", action="store_true", help="N <= 256, one thread, nothing slower than 2 s a call"
        )
        parser.add_argument("--sizes", nargs="*", help="such as 64x256 1024x512")
        parser.add_argument("--epsilons", nargs="*", type=float, default=EPSILONS)
        parser.add_argument("--threads", nargs="*", type=int, help="default 1 2; quick: 1")
        parser.add_argument(
            "--limit", type=float, help=f"seconds a call may take; slower settings are not tried (default {LIMIT:g})"
        )

    def is_trial(self, arguments: Namespace) -> bool:
        return bool(arguments.quick)

    def cells(self, arguments: Namespace) -> list[Cell]:
        sizes = [_size(text) for text in arguments.sizes] if arguments.sizes else SIZES
        if arguments.quick:
            sizes = [size for size in sizes if size[0] <= 256]
        threads = arguments.threads or ([1] if arguments.quick else [1, 2])
        limit = arguments.limit or (2.0 if arguments.quick else LIMIT)
        # the usual limit is no setting: most finished cells do not name theirs
        extra: dict[str, Any] = {} if limit == LIMIT else {"limit": limit}
        cells = [
            Cell(self.name, {"measure": "time", "n": n, "d": d, "epsilon": epsilon, "threads": count} | extra)
            for (n, d), count, epsilon in itertools.product(sizes, threads, arguments.epsilons)
        ]
        return cells if arguments.quick else [Cell(self.name, MEMORY), *cells]

    def label(self, cell: Cell) -> str:
        return " ".join(f"{name}={value}" for name, value in cell.choices.items())

    def environment(self, cell: Cell) -> dict[str, str]:
        threads = str(cell.choices.get("threads", 1))
        found = {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if threads == "1":  # XLA at its best: no hand-over between threads that share one core
            found["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        return found

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.machine import machine, processor

        about = processor()  # the load before we add to it
        found = self.compare(**cell.choices)
        return {"machine": machine(**about, versions=_versions())} | found

    def compare(self, **choices: Any) -> Record:
        """What the cell finds, beside the machine that it ran on."""
        from .transport_timing import run_case, run_memory

        if choices.pop("measure") == "memory":
            return run_memory(**choices)
        return run_case(**({"limit": LIMIT} | choices))

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.write import write_table
        from .transport_report import markdown

        return [write_table(folder, markdown(records), "Entropic transport: time of the others over ours")]


def _size(text: str) -> tuple[int, int]:
    n, _, d = text.partition("x")
    if not (n.isdigit() and d.isdigit()):
        raise ValueError(f"`sizes` has {text!r}; expected N and D such as 64x256.")
    return int(n), int(d)


def _versions() -> dict[str, str | None]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


SUITE = Transport()
