"""The command line: `otmerge COMMAND ...`, one module of `commands/` for each command."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

from . import __version__, commands


def load_commands() -> dict[str, ModuleType]:
    """Modules of `commands/` by the name of their command; each has `add_parser` and `run`.

    Example:
        >>> "align" in load_commands()
        True
    """
    names = [module.name for module in pkgutil.iter_modules(commands.__path__) if not module.name.startswith("_")]
    return {name.replace("_", "-"): importlib.import_module(f"{commands.__name__}.{name}") for name in names}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words after `otmerge`; those of the process when None.

    Returns:
        Exit code: the command's own, or 2 for bad input, which is told in one line.
    """
    modules = load_commands()
    parser = argparse.ArgumentParser(
        prog="otmerge", description="Merge two frozen encoders into one multimodal model with optimal transport."
    )
    parser.add_argument("--version", action="version", version=f"otmerge_hf {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in modules.values():
        module.add_parser(subparsers)
    parsed = parser.parse_args(arguments)
    try:
        return int(modules[parsed.command].run(parsed))
    except (ValueError, OSError, ImportError) as error:
        if parsed.traceback:
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        sys.stderr.write(f"otmerge {parsed.command}: error: {lines[0]}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
