"""transformers' own common tests, from its source distribution on the package index: fetched, never copied here."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import transformers


VERSION = transformers.__version__
# What the two files of the distribution import; `parameterized` is no dependency of ours for anything else.
NEEDED = [f"transformers=={VERSION}", "parameterized==0.9.0"]
FILES = ("test_modeling_common.py", "test_configuration_common.py")
# Modules beside them that the distribution leaves out: mixins for generation and export, which our models have not.
ABSENT = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": "config_common_kwargs = {}\n",  # read for configurations without parts alone
}


def fetch() -> Path:
    """Folder with the source distribution and what it needs; skips the test where the index cannot be reached."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "otmerge_hf_tests" / VERSION
    if not list(cache.glob("transformers-*.tar.gz")) or not list(cache.glob("parameterized-*.whl")):
        options = [
            "--no-deps",
            "--no-build-isolation",
            "--no-binary",
            "transformers",
            "--only-binary",
            "parameterized",
        ]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(cache), *NEEDED]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        unreachable = any(sign in done.stderr for sign in ("Retrying (", "ConnectionError", "Network is unreachable"))
        if done.returncode and unreachable:
            pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
    return cache


def unpack(target: Path) -> None:
    """Make the package `transformers_tests` in `target`, importable with what it needs."""
    cache, package = fetch(), target / "transformers_tests"
    package.mkdir()
    (package / "__init__.py").touch()
    (archive,) = cache.glob("transformers-*.tar.gz")
    with tarfile.open(archive) as source:
        for name in FILES:
            (package / name).write_bytes(source.extractfile(f"transformers-{VERSION}/tests/{name}").read())
    for name, text in ABSENT.items():
        (package / name).parent.mkdir()
        (package / name).write_text(text)
    (wheel,) = cache.glob("parameterized-*.whl")
    with zipfile.ZipFile(wheel) as source:
        source.extractall(target)
