"""Arguments of many kinds that do not fit: exit code 2 and one line, before any work."""

import argparse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otmerge_hf import cli


QUICK = {"max_examples": 25, "derandomize": True, "database": None, "deadline": None}
QUICK["suppress_health_check"] = list(HealthCheck)
MANY = QUICK | {"max_examples": 300}
WORDS = ["", "x", "no/such", "/dev/null", "\x00", "🙂", "http://[bad", "[]", "{}", "a=b", "--", "foo:bar", "~", "%s"]


@pytest.fixture
def run_command(tmp_path, monkeypatch, capsys):
    """A command with arguments that fit, and one to four values that do not; none names anything that is there."""
    monkeypatch.chdir(tmp_path)
    actions = {}
    for name in cli.command_names():
        parsers = argparse.ArgumentParser().add_subparsers()
        cli.load_command(name).add_parser(parsers)
        actions[name] = [action for action in parsers.choices[name]._actions if action.option_strings]

    def value(r, action):
        if action.choices and r.random() < 0.85:
            return str(r.choice(list(action.choices)))
        numbers = {int: ["-1", "0", "3", "1000000000000"], float: ["-1", "0", ".5", "nan", "inf", "1e99"]}
        return r.choice(numbers.get(action.type, WORDS))

    def run(r):
        name = r.choice(list(actions))
        needed = [action for action in actions[name] if action.required and r.random() < 0.97]
        others = [action for action in actions[name] if not action.required and action.dest != "help"]
        words = [name]
        for action in needed + r.sample(others, min(len(others), r.randint(0, 3))):
            words.append(r.choice(action.option_strings))
            if action.nargs != 0:
                words += [value(r, action) for _ in range(r.choice([1] * 12 + [0, 2]))]
        capsys.readouterr()
        try:
            code = cli.main(words)
        except SystemExit as left:  # argparse: usage, and a line
            code = left.code
        said = capsys.readouterr().err.strip().splitlines()
        assert code == 2, words
        assert ": error: " in said[-1], (words, said)

    return run


def test_commands(run_command):
    settings(**QUICK)(given(st.randoms(use_true_random=True))(run_command))()


@pytest.mark.slow
def test_commands_at_length(run_command):
    settings(**MANY)(given(st.randoms(use_true_random=True))(run_command))()
