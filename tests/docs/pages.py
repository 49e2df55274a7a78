"""Code blocks of the pages: how they are found and run, and how a command is checked that takes too long to run."""

import argparse
import ast
import importlib.util
import io
import re
import runpy
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pytest
import torch.distributed.run
from packaging.requirements import Requirement

import benchmarks.command_line
from otmerge_hf import cli
from otmerge_hf.encoders import IMAGE_ENCODERS, TEXT_ENCODERS


ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# What tells a reader what to do; not the changelog, which tells what was, nor tables that programs made.
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for pattern in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "docs/*.md", "examples/**/*.md", "model_cards/*.md")
    for path in sorted(ROOT.glob(pattern))
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
TREE = {"benchmarks", "docs", "examples", "model_cards", "src", "tests"}  # words below these are files of ours
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {Requirement(line).name: line for lines in (PROJECT["dependencies"], *EXTRAS.values()) for line in lines}
# Bash reads the block; each command, none of which is found, gives its words instead of running.
TELL = "exec 3>&1; set -u; PATH=/nowhere; command_not_found_handle() { printf '%s\\0' \"$@\" $'\\n' >&3; }\n"


def blocks(text: str) -> list[tuple[str, str]]:
    """`(language, code)` of every fenced block; the language is "" where none is named."""
    return BLOCK.findall(text)


def spans(text: str) -> list[str]:
    """Commands in the running text and in tables; words in capitals, such as NAME, stand for others.

    They are whole, but those of `otmerge`, which may leave out what does not matter there: `check_shell(code, True)`.
    """
    found = re.findall(r"`((?:make |python examples/|python -m benchmarks |otmerge )[^`]*)`", BLOCK.sub("", text))
    found = [" ".join(code.split()).removesuffix(" ...") for code in found]
    return [code for code in found if not re.search(r"\b(SCRIPT|NAME)\b", code)]


def run_blocks(page: str, names: dict | None = None, languages: str = "python sh") -> str:
    """Run a page's blocks, in order, in the working folder and with these names: what its Python printed.

    Of shell commands those run that are this package's own and end by themselves; `check_shell` has the others.
    """
    names = {"__name__": "page"} if names is None else names
    with redirect_stdout(io.StringIO()) as printed:
        for language, code in blocks(page):
            if language == "python" and language in languages:
                exec(compile(code, "block", "exec"), names)
            elif language == "sh" and language in languages:
                for words in commands(code):
                    if words[0] == "otmerge" or words[1:2] == ["examples/retrieve.py"]:
                        try:
                            status = run_command(words)
                        except SystemExit as end:
                            status = end.code
                        assert not status, words
    return printed.getvalue()


def commands(code: str) -> list[list[str]]:
    """Words of each command of a shell block, with its variables filled in."""
    done = subprocess.run(["bash", "-c", TELL + code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), f"{code}\n{done.stderr}"
    return [command.split("\0")[:-1] for command in done.stdout.split("\n\0")[:-1]]


def run_command(words: list[str]) -> object:
    """Run `otmerge`, or a script of ours, in the working folder, in this process, which has imported it all."""
    if words[0] == "otmerge":
        return cli.main(words[1:])
    with mock.patch.object(sys, "argv", words[1:]):
        runpy.run_path(str(ROOT / words[1]), run_name="__main__")
    return 0


def check_shell(code: str, part: bool = False) -> None:
    """Fail if a command could not run: a flag, value, file, target, extra, package or name is not there.

    A `part` of a command of `otmerge` may lack flags, and the value of a flag.
    """
    for words in commands(code):
        _check_command(words, part)


def _check_command(words: list[str], part: bool) -> None:
    for word in words:
        if "/" in word and word.split("/")[0] in TREE:
            assert (ROOT / word).exists(), f"there is no {word}"
    for flag, name in pairwise(words):
        if flag in ("--context", "--query") and words[0] == "otmerge":
            assert "/" in name or name in IMAGE_ENCODERS + TEXT_ENCODERS, f"{flag} {name} is no packaged encoder"
    match words:
        case ["make", *targets]:
            known = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
            assert {word for word in targets if "=" not in word} <= set(known), targets
        case ["pip", "install", *what]:
            check_packages([word for word in what if not word.startswith("-")])
        case ["otmerge", *_]:
            check_words(lambda: run_command(words), part)
        case ["python", "-m", "benchmarks", "run", *rest] if "--help" not in rest:
            check_words(lambda: benchmarks.command_line.main(["run", *rest]))
            # its parser knows no names of methods, tasks and settings
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as said:
                assert benchmarks.command_line.main(["run", *rest, "--dry-run"]) == 0, said.getvalue()
        case ["python", "-m", "benchmarks", *rest]:
            check_words(lambda: benchmarks.command_line.main(rest))
        case ["python", "-c", code]:
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom):
                    assert all(hasattr(importlib.import_module(node.module), one.name) for one in node.names)
        case ["python", script, *_] if script.startswith("examples/"):
            with pytest.MonkeyPatch.context() as patch:
                if not importlib.util.find_spec("gradio"):  # which has an environment of its own
                    patch.setitem(sys.modules, "gradio", types.SimpleNamespace(Blocks=object))
                check_words(lambda: run_command(words))
        case ["torchrun", *rest]:
            check_words(lambda: torch.distributed.run.get_args_parser().parse_args(rest))
        case ["curl", *rest]:  # to `examples/serve.py`
            fields = [word.partition("=")[0] for flag, word in pairwise(rest) if flag == "-F"]
            assert set(fields) <= {"image", "question", "top_k"}, fields
            assert rest[-1] == "http://127.0.0.1:8000/answers"
        case ["apt-get", "install", name]:
            assert f"`{name}`" in (ROOT / "pyproject.toml").read_text(), f"pyproject.toml does not speak of {name}"
        case _:
            raise AssertionError(f"no rule for {words}")


def check_packages(what: list[str]) -> None:
    """Fail on an extra that pyproject.toml lacks, and on a package that it does not ask for, or in another version."""
    for word in what:
        if word.startswith("."):
            assert set(word.removeprefix(".[").removesuffix("]").split(",")) <= set(EXTRAS), word
        else:
            asked = Requirement(word)
            assert asked.name in PINS, f"{asked.name} is no dependency"
            assert not asked.specifier or asked == Requirement(PINS[asked.name]), f"{word}; {PINS[asked.name]}"


class _Parsed(Exception):
    """A command line was read; what would run does not."""


def check_words(program: Callable, part: bool = False) -> None:
    """Fail if the program's own argument parser refuses its words, or this part of them; nothing runs after it."""
    parse = argparse.ArgumentParser.parse_known_args

    def only_parse(parser: argparse.ArgumentParser, *given: object, **named: object) -> None:
        parser.allow_abbrev = False
        for action in parser._actions if part else ():
            action.required = False
            if action.option_strings and action.nargs is None:
                action.nargs = "?"
        unknown = parse(parser, *given, **named)[1]
        raise _Parsed(f"there is no {unknown}" if unknown else "")

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_known_args", only_parse),
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()) as said,
    ):
        try:
            program()
            refused = "the command line was not read"
        except _Parsed as parsed:
            refused = str(parsed)
        except SystemExit as end:  # with 0 after --help
            refused = f"{end.code or ''}{said.getvalue()}"
    assert not refused, refused
