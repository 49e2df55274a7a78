"""Wrong words on the command line: one line each."""

import pytest

from otmerge_hf import cli


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["check", "--data", "x", "--presett", "y"], "there is no --presett (did you mean --preset?)"),
        (["check", "--data", "x", "--qqq"], "there is no --qqq"),
        (["check"], "the following arguments are required: --data"),
        (["check", "--data", "x", "--preset", "y"], "argument --preset: invalid choice: 'y'"),
    ],
)
def test_one_line_says_what_is_wrong(words, line, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"otmerge check: error: {line}")
    assert said.endswith("; see otmerge check --help\n")
    assert said.count("\n") == 1
