"""What every run writes into its results alike: data, seed, command, parameters, seconds -> facts."""

from collections.abc import Mapping
from typing import Any

from .numbers import counted, listed


NOT_RECORDED = "not recorded"


def data_of(settings: Mapping[str, Any], key: str = "data") -> tuple[str, tuple[str, ...]]:
    """Name of the data that a run was given, and its names on the Hub.

    Example:
        >>> data_of({"data": {"name": "lmms-lab/VQAv2", "hub": "lmms-lab/VQAv2"}})
        ('lmms-lab/VQAv2', ('lmms-lab/VQAv2',))
        >>> data_of({})
        ('not recorded', ())
    """
    source = settings.get(key) or {}
    return source.get("name") or NOT_RECORDED, tuple(name for name in [source.get("hub")] if name)


def measured_lines(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Seed count and command."""
    seed = settings.get("seed")
    which = f" ({seed})" if seed is not None else ""
    command = settings.get("command")
    asked = f"Command: `{command}`" if command else f"Command: {NOT_RECORDED} (called from Python)"
    return f"1 seed{which}: how much another seed changes is not known.", asked


def compute_lines(results: Mapping[str, Any]) -> tuple[str, ...]:
    """Seconds as measured, and parameters."""
    lines = [f"Time as measured: {listed(results['seconds'])}."] if results.get("seconds") else []
    if found := results.get("parameters"):
        learnt, whole = found["beside_encoders"], found["all"]
        lines.append(f"{counted(learnt, 'parameter')} beside the encoders, of {whole:,} in all.")
    return tuple(lines)


def parts_line(name: str, counts: Mapping[str, Mapping[str, int]]) -> str:
    """A data set and the counts of its parts, `{part: {what: count}}`.

    Example:
        >>> parts_line("mine", {"train": {"rows": 1200, "images": 40}, "test": {"rows": 1, "images": 1}})
        'mine: train 1,200 rows, 40 images; test 1 row, 1 image.'
    """
    parts = []
    for part, found in counts.items():
        shown = ", ".join(counted(n, kind.removesuffix("s")) for kind, n in found.items() if kind != "scored")
        parts.append(f"{part} {shown}")
    return f"{name}: {'; '.join(parts)}."


def count_parameters(model: Any) -> dict[str, int]:
    """Parameters of a merge, for its results: `beside_encoders` (adapters, fuser, head, temperature) and `all`."""
    whole = sum(parameter.numel() for parameter in model.parameters())
    encoders = sum(p.numel() for encoder in model.named_encoders().values() for p in encoder.parameters())
    return {"beside_encoders": whole - encoders, "all": whole}
