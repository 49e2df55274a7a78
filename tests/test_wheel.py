"""The wheel is the product: it installs by itself, imports, answers `otmerge --help`, and holds no laboratory.

The source distribution makes the same wheel.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy, so that nothing left in the checkout gets into what is built, and nothing is left there."""
    source = tmp_path_factory.mktemp("source")
    left_out = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "__pycache__")
    for name in ("src", "benchmarks", "examples", "tests", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, source / name)
    return source


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


def build_wheel(source, folder):
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, source)
    (built,) = folder.glob("*.whl")
    return built


def pip(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_holds_the_package_and_nothing_else(wheel):
    names = [Path(name) for name in zipfile.ZipFile(wheel).namelist()]
    packed = {name.parts[0] for name in names}
    assert packed == {"otmerge_hf", next(part for part in packed if part.endswith(".dist-info"))}
    package = {str(name) for name in names if name.parts[0] == "otmerge_hf"}
    source = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "otmerge_hf").rglob("*.py")}
    assert package == source | {"otmerge_hf/py.typed"}


def test_the_source_distribution_makes_the_same_wheel(source, wheel, tmp_path):
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    distribution = tmp_path / done.stdout.splitlines()[-1]
    with tarfile.open(distribution) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/otmerge_hf/__init__.py"} <= names
    rebuilt = build_wheel(distribution, tmp_path)
    assert contents(rebuilt) == contents(wheel)


def contents(wheel):
    """Bytes of a wheel's files, but of the list of their hashes and of what names the builder."""
    with zipfile.ZipFile(wheel) as packed:
        return {name: packed.read(name) for name in packed.namelist() if not name.endswith(("RECORD", "/WHEEL"))}


def test_installs_imports_and_answers(wheel, tmp_path):
    target = tmp_path / "installed"
    pip("install", "--no-deps", "--target", target, wheel)
    # the dependencies are this environment's; the package is not
    environment = os.environ | {"PYTHONPATH": str(target), "HF_HUB_OFFLINE": "1"}
    code = """
import importlib.util
import otmerge_hf
print(otmerge_hf.__file__)
print(importlib.util.find_spec("benchmarks"))
"""
    run = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", code], **run)
    assert done.returncode == 0, done.stderr[-2000:]
    where, laboratory = done.stdout.splitlines()[-2:]
    assert Path(where).is_relative_to(target)
    assert laboratory == "None"
    done = subprocess.run([sys.executable, str(target / "bin" / "otmerge"), "--help"], **run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"align", "ask"} <= set(done.stdout.split())
    assert not {"benchmark"} & set(done.stdout.split())
