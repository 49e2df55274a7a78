"""Names of a package that are read from their modules when they are first asked for."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__` (PEP 562): who needs one light name does not import what others need.

    A name must not be that of a module of the package, which would hide it once the module is imported.

    Args:
        package: The package's `__name__`.
        modules: Name -> the module in the package that has it.

    Example:
        >>> find, names = lazy_names("otmerge_hf.features", {"FeatureStore": "store"})
        >>> find("FeatureStore").__name__, "FeatureStore" in names()
        ('FeatureStore', True)
        >>> find("Absent")
        Traceback (most recent call last):
        AttributeError: module 'otmerge_hf.features' has no attribute 'Absent'
    """

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return find, names
