"""What seconds and memory were measured on, and the memory of this process."""

import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any


_MIB = 1024.0


def machine(**more: Any) -> dict[str, Any]:
    """What the seconds depend on, as every record keeps it.

    Args:
        **more: What else the suite wants known.
    """
    import torch  # here: a process may set its threads and cores first

    return {
        "architecture": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    } | more


def processor() -> dict[str, Any]:
    """Name of the processor, cores, and the load of the last 1, 5 and 15 minutes."""
    path = Path("/proc/cpuinfo")
    rows = path.read_text().splitlines() if path.is_file() else []
    names = [row.split(":")[1].strip() for row in rows if row.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "load": list(os.getloadavg()),
    }


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, MiB.

    From Linux' own per-image record where there is one: `ru_maxrss` survives the exec and would start at the size of
    whoever started the process.
    """
    if (peak := _status("VmHWM")) is not None:
        return peak
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB / (_MIB if sys.platform == "darwin" else 1.0)


def memory_mib() -> float:
    """Resident memory of this process now, MiB; its peak where the system does not say."""
    now = _status("VmRSS")
    return peak_memory_mib() if now is None else now


def _status(name: str) -> float | None:
    path = Path("/proc/self/status")
    if not path.is_file():
        return None
    lines = (line.split() for line in path.read_text().splitlines())
    return next((float(words[1]) / _MIB for words in lines if words and words[0] == f"{name}:"), None)
