"""docs/theory.md and the tests beside this one belong together."""

import ast
import re
from pathlib import Path


HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = (ROOT / "docs" / "theory.md").read_text()
STATEMENTS = re.findall(r"^### (\d+)\.(\d+) (.+?)$(.+?)(?=^##|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)


def all_tests():
    """`file.py::name` of every test of a statement, and its decorators as text."""
    for path in sorted(HERE.glob("test_*.py")):
        if path.name != Path(__file__).name:
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    yield f"{path.name}::{node.name}", " ".join(map(ast.unparse, node.decorator_list))


def test_every_statement_names_a_test_and_every_test_a_statement():
    named = [re.findall(r"^- \*Test:\* `(.+?)`$", text, flags=re.MULTILINE) for *_, text in STATEMENTS]
    assert [len(names) for names in named] == [1] * len(STATEMENTS)
    tests = dict(all_tests())
    assert sorted(names[0] for names in named) == sorted(tests)  # so none is named twice, and none is left out
    assert not [name for name, marks in tests.items() if re.search("slow|skip|xfail", marks)]


def test_statements_are_numbered_and_say_what_they_assume_and_why():
    assert len(STATEMENTS) > 30
    seen = {}
    for section, number, title, text in STATEMENTS:
        seen[section] = seen.get(section, 0) + 1
        assert int(number) == seen[section], title
        for word in ("\n- *Assumes* ", "\n- *Statement.* ", "\n- *Why.* "):
            assert text.count(word) == 1, f"{section}.{number}: {word!r}"
    assert list(seen) == [str(i + 1) for i in range(len(seen))]
    for reference in re.findall(r"(?<![\d.,])([1-9])\.([1-9])(?![\d%])", PAGE):
        assert reference in {(s, n) for s, n, *_ in STATEMENTS}, ".".join(reference)


def test_mathematics_is_written_as_github_shows_it():
    """Markdown eats a backslash before punctuation, and reads `<` as the beginning of a tag."""
    for formula in re.findall(r"\$([^$]+)\$", PAGE):
        assert not re.search(r"\\[^A-Za-z]|[<>*]", formula), formula
    assert PAGE.count("$") % 2 == 0


def test_the_readme_leads_here():
    assert "(docs/theory.md)" in (ROOT / "README.md").read_text()
