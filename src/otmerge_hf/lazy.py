"""Names of a package that are read from their modules when they are first asked for."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, structure: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__` (PEP 562): who needs one light name does not import what others need.

    A name must not be that of a module of the package, which would hide it once the module is imported.

    Args:
        package: The package's `__name__`.
        structure: Module of the package -> its names.

    Example:
        >>> find, listed = lazy_names("otmerge_hf.features", {"store": ["FeatureStore"]})
        >>> find("FeatureStore").__name__, "FeatureStore" in listed()
        ('FeatureStore', True)
        >>> find("Absent")
        Traceback (most recent call last):
        AttributeError: module 'otmerge_hf.features' has no attribute 'Absent'
    """
    modules = {name: module for module, names in structure.items() for name in names}

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return find, listed
