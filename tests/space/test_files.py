"""The folder of the Space says one thing in all its files, and the Hub can read it."""

import re
import tomllib
from pathlib import Path

import yaml
from PIL import Image


ROOT = Path(__file__).parents[2]
SPACE = ROOT / "examples" / "space"


def test_metadata_and_requirements():
    metadata = yaml.safe_load((SPACE / "README.md").read_text().split("---\n")[1])
    assert metadata["sdk"] == "gradio"
    assert (SPACE / metadata["app_file"]).is_file()
    assert len(metadata["short_description"]) <= 60
    colors = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {metadata["colorFrom"], metadata["colorTo"]} <= colors
    pins = dict(line.split("==") for line in (ROOT / "constraints-space.txt").read_text().split())
    assert metadata["sdk_version"] == pins["gradio"], "what is tested is what the Space runs"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lines = [line for line in (SPACE / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "torch"
    named = re.fullmatch(r"otmerge-hf\[(.*)\]", lines[1]).group(1).split(",")
    assert set(named) <= set(extras)
    assert any(one.startswith("gradio>=") for one in extras["space"])


def test_variables_of_the_readme_are_those_of_the_script():
    readme, script = ((SPACE / name).read_text() for name in ("README.md", "app.py"))
    for pattern in (r"OTMERGE_[A-Z]+", r"--[a-z]+"):
        assert set(re.findall(f"`({pattern})`", readme)) == set(re.findall(f'"({pattern})"', script))


def test_pictures_are_small():
    for path in [SPACE / "example.png", *(ROOT / "docs").glob("space-*.png")]:
        assert path.stat().st_size < 200_000
        with Image.open(path) as image:
            assert min(image.size) >= 64
