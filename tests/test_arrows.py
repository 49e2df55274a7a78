"""Imports inside the package point one way: who may look at whom.

`python tests/test_arrows.py` writes the table of CONTRIBUTING.md anew.
"""

import ast
from pathlib import Path

import pytest

import otmerge_hf


ROOT = Path(otmerge_hf.__file__).parent
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
MARKS = ("<!-- arrows -->\n", "<!-- /arrows -->")
# folder -> the folders of ours that it may import; every folder may import itself, and none is missing here
ALLOWED = {
    "transport": set(),
    "model": set(),
    "losses": {"transport", "model"},
    "metrics": {"transport", "model"},
    "alignment": {"transport", "metrics", "model", "features", "data", "encoders", "hub"},
    "features": {"model"},
    "data": {"metrics", "model", "features"},
    "encoders": set(),
    "export": {"model"},
    "hub": {"model", "encoders"},  # results reach it as plain values: those who write them may look at it
    "training": {"losses", "transport", "metrics", "model", "features", "data", "alignment", "hub"},
    "analysis": {"metrics", "alignment", "transport", "model", "features", "data", "training", "hub"},
}
TOP = {"commands"}  # with the files beside __init__: they use everything, and nothing may import them
# What `transport` and `model` may import at the top of a file: they are usable, or travel, alone.
OUTSIDE = {
    "transport": {"torch", "numpy", "math", "dataclasses", "typing", "collections", "functools", "itertools", "enum",
                  "warnings", "contextlib", "abc", "__future__"},
    "model": {"torch", "transformers", "huggingface_hub", "PIL", "math", "copy", "dataclasses", "collections",
              "shutil", "pathlib", "inspect", "os", "io", "struct", "base64", "typing", "functools",
              "contextlib", "unicodedata", "hashlib", "re", "wave", "weakref"},
}  # fmt: skip
# Inside `model/`: a file imports only files to its left.
MODEL_ORDER = ("sources", "configuration_otmerge", "images", "sounds", "modality", "validation", "padding", "encoders",
               "probing", "attention", "adapters", "plans", "fusers", "scaling", "outputs_otmerge", "linear_path",
               "fetching", "unmerge", "checkpoint", "modeling_otmerge", "texts", "image_rows", "processing_otmerge",
               "pipeline_otmerge")  # fmt: skip
FILES = sorted(path for path in ROOT.rglob("*.py"))


def imports(path):
    """`(module, lazily)` of every import in a file, ours as `otmerge_hf.x.y`, whatever way it is written."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    package = ["otmerge_hf", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) not in top
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            # `from . import x` and `from otmerge_hf import x` may name modules
            deeper = module == "otmerge_hf" or (node.level and not node.module)
            for name in [f"{module}.{alias.name}" for alias in node.names] if deeper else [module]:
                yield name, id(node) not in top


def wrong_arrows(path):
    folder = path.relative_to(ROOT).parts[0]
    top = folder.endswith(".py") or folder in TOP
    wrong = []
    for module, lazily in imports(path):
        first, *rest = module.split(".")
        if first == "benchmarks":  # the laboratory imports the product, never the other way
            wrong.append(module)
        elif top:
            continue
        elif first == "otmerge_hf":
            target = rest[0] if rest else "otmerge_hf itself"
            if target != folder and target not in ALLOWED[folder]:
                wrong.append(module)
        elif (
            folder in OUTSIDE
            and first not in OUTSIDE[folder]
            and not (lazily and (folder, first) == ("transport", "ot"))
        ):
            wrong.append(module)
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_one_way(path):
    assert wrong_arrows(path) == []


def table():
    """CONTRIBUTING's table: each folder, the first sentence of its `__init__`, and what it may import."""
    lines = ["| folder of `src/otmerge_hf/` | what lives there | may import of ours |", "|---|---|---|"]
    for folder, below in ALLOWED.items():
        names = ", ".join(f"`{name}`" for name in ALLOWED if name in below)
        lines.append(f"| `{folder}/` | {_about(folder)} | {names} |")
    lines += [f"| `cli.py`, `{folder}/` | {_about(folder)} | everything |" for folder in sorted(TOP)]
    return "\n".join(lines) + "\n"


def _about(folder):
    text = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text()))
    first = " ".join(text.partition("\n\n")[0].split()).partition(". ")[0]
    return first.replace("``", "`").replace("|", "\\|").rstrip(".")


def test_contributing_shows_these_arrows():
    _, start, rest = CONTRIBUTING.read_text().partition(MARKS[0])
    found, end, _ = rest.partition(MARKS[1])
    assert start
    assert end
    assert found == table(), "run: python tests/test_arrows.py"


def test_every_folder_has_its_arrows():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders <= set(ALLOWED) | TOP


def test_no_arrow_comes_back():
    """The table itself is a hierarchy."""
    left = dict(ALLOWED)
    while left:
        ready = [folder for folder, below in left.items() if not below & set(left)]
        assert ready, f"in a circle: {sorted(left)}"
        for folder in ready:
            del left[folder]


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.parent.name == "model" and p.name != "__init__.py"], ids=lambda p: p.name
)
def test_model_is_flat_and_ordered(path):
    """transformers copies remote code by a regular expression over `from .x import`, without folders."""
    place = MODEL_ORDER.index(path.stem)
    assert not any(p.is_dir() for p in path.parent.iterdir() if p.name != "__pycache__")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1
            assert node.module in MODEL_ORDER[:place], f"{path.name} imports {node.module}"


@pytest.mark.parametrize(
    ("folder", "line", "found"),
    [
        ("transport", "from ..losses import paired", ["otmerge_hf.losses"]),
        ("transport", "from .. import losses", ["otmerge_hf.losses"]),
        ("transport", "import otmerge_hf.model.adapters", ["otmerge_hf.model.adapters"]),
        ("transport", "import transformers", ["transformers"]),
        ("transport", "import ot", ["ot"]),
        ("transport", "def f():\n    import ot", []),
        ("transport", "def f():\n    import scipy", ["scipy"]),
        ("losses", "def f():\n    from ..training import stages", ["otmerge_hf.training"]),
        ("losses", "from ..transport.sinkhorn import sinkhorn", []),
        ("model", "from ..transport import sinkhorn", ["otmerge_hf.transport"]),
        ("model", "import geomloss", ["geomloss"]),
        ("training", "from benchmarks.methods import stages", ["benchmarks.methods"]),
        ("commands", "def f():\n    import benchmarks", ["benchmarks"]),
        ("commands", "from ..training import stages", []),
        ("model", "from otmerge_hf import OTMergeModel", ["otmerge_hf.OTMergeModel"]),
    ],
)
def test_wrong_arrow_is_found(monkeypatch, tmp_path, folder, line, found):
    (tmp_path / folder).mkdir()
    path = tmp_path / folder / "new.py"
    path.write_text(line)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert wrong_arrows(path) == found


if __name__ == "__main__":
    before, start, rest = CONTRIBUTING.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    CONTRIBUTING.write_text(f"{before}{start}{table()}{end}{after}")
