"""The command line: `otmerge COMMAND ...`, one module of `commands/` for each command."""

import argparse
import difflib
import importlib
import pkgutil
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from . import __version__, commands
from .commands._config import add_config_argument, with_settings


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


def name_flags(message: str, parser: argparse.ArgumentParser) -> str:
    """A message of a public function, with the command's flags in place of the arguments that it names.

    Arguments of several words count wherever they stand, unless in quotes, where they may be names of columns;
    those of one word if they stand in backticks. A `source`, with which a message begins, is `--data` or `--pairs`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> _ = parser.add_argument("--top-answers", dest="top"), parser.add_argument("--image-column")
        >>> name_flags("`top` is -1; pass image_column", parser)
        '--top-answers is -1; pass --image-column'
    """
    flags = {action.dest: action.option_strings[0] for action in parser._actions if action.option_strings}

    if own := [flags[name] for name in ("data", "pairs") if name in flags]:
        message = re.sub(r"^source\b", own[0], message)

    def flag(match: re.Match[str]) -> str:
        quoted, bare = match["quoted"], match["bare"]
        return flags.get(quoted or bare, match[0])

    return re.sub(r"`(?P<quoted>\w+)`|(?<![\w'\"/.-])(?P<bare>[a-z]+(?:_[a-z]+)+)(?![\w'\"/.-])", flag, message)


def without_folders(words: Sequence[str]) -> str:
    """The command that was given, as a shell takes it; of absolute paths, which are of one machine, the last name.

    Example:
        >>> without_folders(["train", "--data", "/home/me/my questions", "--lora=8"])
        "otmerge train --data 'my questions' --lora=8"
    """
    parts = [word.partition("=") if word.startswith("--") else ("", "", word) for word in words]
    shown = [f"{name}{sign}{Path(value).name if Path(value).is_absolute() else value}" for name, sign, value in parts]
    return shlex.join(["otmerge", *shown])


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line; its subcommands' are so too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def _unknown_flag(given: str, parser: argparse.ArgumentParser) -> str:
    known = [flag for action in parser._actions for flag in action.option_strings]
    near = difflib.get_close_matches(given.partition("=")[0], known, n=1)
    return f"there is no {given}" + (f" (did you mean {near[0]}?)" if near else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words after `otmerge`; those of the process when None.

    Returns:
        Exit code: the command's own, or 2 for bad input, which is told in one line, and bad rows in a line each.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    known = command_names()
    asked = next((word for word in words if not word.startswith("-")), None)
    # Only the command that runs is imported; all of them where help or an error lists them.
    modules = {name: load_command(name) for name in ([asked] if asked in known else known)}
    parser = _Parser(
        prog="otmerge", description="Merge two frozen encoders into one multimodal model with optimal transport."
    )
    parser.add_argument("--version", action="version", version=f"otmerge_hf {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {name: module.add_parser(subparsers) for name, module in modules.items()}
    for added in parsers.values():
        add_config_argument(added)
    try:
        if asked in parsers:
            words = with_settings(words, parsers[asked], asked)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"otmerge {asked}: error: {error}\n")
        return 2
    parsed, unknown = parser.parse_known_args(words)
    if unknown:
        parsers[parsed.command].error(_unknown_flag(unknown[0], parsers[parsed.command]))
    parsed.started_by = without_folders(words)
    try:
        return int(modules[parsed.command].run(parsed))
    except (ValueError, OSError, ImportError) as error:
        if parsed.traceback:
            raise
        lines = name_flags(str(error).strip(), parsers[parsed.command]).splitlines() or [type(error).__name__]
        shown = "\n".join(lines[: getattr(error, "shown_lines", 1)])
        sys.stderr.write(f"otmerge {parsed.command}: error: {shown}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
