import inspect
import pkgutil

import pytest

import otmerge_hf.baselines
import otmerge_hf.data
import otmerge_hf.metrics
import otmerge_hf.suites


PACKAGES = [otmerge_hf.baselines, otmerge_hf.data, otmerge_hf.metrics, otmerge_hf.suites]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_found_and_listed(package):
    for name in package.__all__:
        assert not inspect.ismodule(getattr(package, name))
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        package.absent  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_hides_a_lazy_name(package):
    """Importing a module sets the package's attribute of that name, and a lazy name is looked up anew each time."""
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    eager = {name for name in package.__all__ if name in vars(package)}
    assert not (set(package.__all__) - eager) & modules
