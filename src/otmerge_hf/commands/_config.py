"""`--config FILE.yaml`: settings of a command from a file, as if they stood on the command line before the rest."""

import difflib
from argparse import ArgumentParser, BooleanOptionalAction, _AppendAction, _StoreTrueAction
from pathlib import Path
from typing import Any

import yaml


FLAG = "--config"


def add_config_argument(parser: ArgumentParser) -> None:
    """State the flag."""
    parser.add_argument(FLAG, metavar="FILE.yaml", help="settings from a file, `name: value`; flags given here win")


def with_settings(words: list[str], parser: ArgumentParser, command: str) -> list[str]:
    """Words of the command line, with those of a file that they name put before the others.

    Raises:
        ValueError: If the file cannot be read, or has a setting that the command has not.
        FileNotFoundError: If it is not there.
    """
    words = [part for word in words for part in (word.split("=", 1) if word.startswith(f"{FLAG}=") else [word])]
    if FLAG not in words or words.index(FLAG) + 1 == len(words):
        return words
    place = words.index(FLAG)
    file, rest = Path(words[place + 1]), words[:place] + words[place + 2 :]
    start = rest.index(command) + 1
    given = {word.partition("=")[0].replace("--no-", "--", 1) for word in rest[start:] if word.startswith("--")}
    return [*rest[:start], *_words_of(file, parser, command, given), *rest[start:]]


def _words_of(file: Path, parser: ArgumentParser, command: str, given: set[str]) -> list[str]:
    if not file.is_file():
        raise FileNotFoundError(f"{FLAG}: there is no file {file}")
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{FLAG} {file}: {where}{getattr(error, 'problem', error)}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{FLAG} {file}: expected settings as `name: value` lines; got a {type(settings).__name__}")
    actions = {flag: action for action in parser._actions for flag in action.option_strings}
    words: list[str] = []
    for name, value in settings.items():
        flag = f"--{str(name).replace('_', '-')}"
        if flag not in actions or flag in (FLAG, "--help"):
            known = [known.removeprefix("--") for known in actions]
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{FLAG} {file}: otmerge {command} has no setting {name!r}{hint}")
        if flag not in given:
            words += _flag(flag, actions[flag], value)
    return words


def _flag(flag: str, action: Any, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(action, BooleanOptionalAction | _StoreTrueAction):
        if not isinstance(value, bool):
            raise ValueError(f"{FLAG}: {flag.removeprefix('--')} is {value!r}; expected true or false")
        off = [f"--no-{flag.removeprefix('--')}"] if isinstance(action, BooleanOptionalAction) else []
        return [flag] if value else off
    values = [str(item) for item in (value if isinstance(value, list) else [value])]
    if isinstance(action, _AppendAction):
        return [f"{flag}={item}" for item in values]
    return [f"{flag}={values[0]}"] if len(values) == 1 else [flag, *values]
