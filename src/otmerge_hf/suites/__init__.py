"""Runs of methods on a data set: one process a cell, resumable, accounted for, and a report made from the JSON."""

from .cell import Cell, read_results
from .grid import grid
from .report import write_report
from .runner import run_cells
from .statistics import Estimate, estimate, paired_difference


__all__ = ["Cell", "Estimate", "estimate", "grid", "paired_difference", "read_results", "run_cells", "write_report"]
