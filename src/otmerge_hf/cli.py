"""The command line: `otmerge COMMAND ...`, one module of `commands/` for each command."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

from . import __version__, commands


def command_names() -> list[str]:
    """Names of the commands: one module of `commands/` each, with `add_parser` and `run`.

    Example:
        >>> "align" in command_names()
        True
    """
    modules = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    return [name.replace("_", "-") for name in modules if not name.startswith("_")]


def load_command(name: str) -> ModuleType:
    """Import the module of one command.

    Example:
        >>> load_command("ask").__name__
        'otmerge_hf.commands.ask'
    """
    return importlib.import_module(f"{commands.__name__}.{name.replace('-', '_')}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words after `otmerge`; those of the process when None.

    Returns:
        Exit code: the command's own, or 2 for bad input, which is told in one line.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    known = command_names()
    asked = next((word for word in words if not word.startswith("-")), None)
    # Only the command that runs is imported; all of them where help or an error lists them.
    modules = {name: load_command(name) for name in ([asked] if asked in known else known)}
    parser = argparse.ArgumentParser(
        prog="otmerge", description="Merge two frozen encoders into one multimodal model with optimal transport."
    )
    parser.add_argument("--version", action="version", version=f"otmerge_hf {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in modules.values():
        module.add_parser(subparsers)
    parsed = parser.parse_args(words)
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
