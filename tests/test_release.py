"""What a release states in several files is the same in all; what CI runs are the commands of the Makefile."""

import re
import tomllib
from pathlib import Path

import yaml

import otmerge_hf


ROOT = Path(__file__).parents[1]


def test_one_version():
    version = otmerge_hf.__version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == version
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == version
    heading = re.search(r"^## (\d.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE).group(1)
    assert heading == f"{version} - {cited['date-released']}"
    assert {"cff-version", "message", "title", "authors", "license"} <= cited.keys()


def test_ci_runs_the_makefile():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    runs = set()
    for job in workflow["jobs"].values():
        named = job.get("strategy", {}).get("matrix", {}).get("command", [""])
        runs |= {
            step["run"].replace("${{ matrix.command }}", name)
            for step in job["steps"]
            if "run" in step
            for name in named
        }
    named = ("setup", "lint", "test", "test-common", "test-space", "test-slow", "docs")
    pythons = "test-python RESOLUTION=${{ matrix.resolution }}"
    assert runs == {f"make {name}" for name in (*named, pythons)}
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert {run.split()[1] for run in runs} <= set(targets)


def test_ci_tries_the_pythons_that_are_claimed():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claimed = [name.rpartition(" ")[2] for name in project["classifiers"] if ":: Python :: 3." in name]
    assert claimed == workflow["jobs"]["python"]["strategy"]["matrix"]["python"]
    assert project["requires-python"] == f">={claimed[0]}"


def test_hooks_are_local():
    """Nothing is fetched, and versions are those of constraints.txt."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
