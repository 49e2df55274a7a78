"""Runs of methods on a data set: one process a cell, resumable, accounted for, and a report made from the JSON."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names


if TYPE_CHECKING:
    from .cell import Cell, read_results
    from .grids import grid
    from .report import write_report
    from .runner import run_cells
    from .statistics import Estimate, estimate, paired_difference
else:  # not for type checkers, to which a package with `__getattr__` has every name
    # what encodes shares the package with what trains, and does without what that imports
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "cell": ["Cell", "read_results"],
            "statistics": ["Estimate", "estimate", "paired_difference"],
            "grids": ["grid"],
            "runner": ["run_cells"],
            "report": ["write_report"],
        },
    )


__all__ = ["Cell", "Estimate", "estimate", "grid", "paired_difference", "read_results", "run_cells", "write_report"]
