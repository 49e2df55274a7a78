import subprocess
import sys

import pytest

import otmerge_hf.baselines
import otmerge_hf.data
import otmerge_hf.suites


@pytest.mark.parametrize("package", [otmerge_hf.baselines, otmerge_hf.data, otmerge_hf.suites])
def test_every_public_name_is_found(package):
    modules = [name for name in package.__all__ if type(getattr(package, name)).__name__ == "module"]
    assert modules == []
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        package.absent  # noqa: B018


def test_encoding_imports_neither_trainer_nor_datasets():
    code = (
        "import sys, otmerge_hf.suites.child; "
        "print([name for name in ('transformers.trainer', 'datasets', 'pandas') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
