"""The chooser table names every term and callback."""

from pathlib import Path

import otmerge_hf.losses
import otmerge_hf.training
from otmerge_hf.losses import LossTerm
from otmerge_hf.training import LossTermCallback


PAGE = (Path(__file__).parents[2] / "docs" / "losses.md").read_text()


def rows():
    table = PAGE.split("## All terms")[1].split("## ")[0]
    cells = [
        [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")
    ]
    return {row[0]: row for row in cells[2:]}


def test_every_term_and_its_callback_have_a_row():
    callbacks = [
        value
        for value in vars(otmerge_hf.training).values()
        if isinstance(value, type) and issubclass(value, LossTermCallback) and value is not LossTermCallback
    ]
    expected = {callback.term_class.name: callback.__name__ for callback in callbacks}
    assert {name: row[1] for name, row in rows().items()} == expected
    terms = [
        value
        for value in vars(otmerge_hf.losses).values()
        if isinstance(value, type) and issubclass(value, LossTerm) and value is not LossTerm
    ]
    assert {term.name for term in terms} == set(expected)
    for term in terms:
        assert rows()[term.name][3] == ("batch" if term.batch_level else "rows")
