"""A script whose extra is not installed says in one line which."""

import runpy
import sys
from pathlib import Path

import pytest


EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("script", "package", "extra"),
    [
        ("serve.py", "fastapi", "serve"),
        ("serve.py", "uvicorn", "serve"),
        ("serve.py", "python_multipart", "serve"),
        ("space/app.py", "gradio", "demo,space"),
    ],
)
def test_a_missing_package_names_its_extra(monkeypatch, script, package, extra):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    assert str(ended.value).startswith(f'error: {package} is not installed: pip install "otmerge-hf[{extra}]"')


def test_a_package_that_gradio_misses_is_named(monkeypatch, tmp_path):
    """It is gradio that imports it, and gradio is there."""
    (tmp_path / "gradio.py").write_text("import package_of_nobody\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gradio", raising=False)
    with pytest.raises(SystemExit, match=r"^error: package_of_nobody is not installed: "):
        runpy.run_path(str(EXAMPLES / "space/app.py"), run_name="__main__")
