"""What the table of adapters says is so."""

import pytest
import torch
from pages import DOCS

from otmerge_hf import OTMergeConfig
from otmerge_hf.model.adapters import build_adapter
from otmerge_hf.model.configuration_otmerge import ADAPTER_TYPES


def rows():
    table = (DOCS / "choose.md").read_text().split("## Which adapter")[1].split("<!--")[0]
    cells = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in cells[2:]}


class Config:
    """What `build_adapter` reads."""

    adapter_hidden_size, reconstruction = 8, False

    def __init__(self, kind, width, shared_dim):
        self.adapter_type, self.width, self.shared_dim = kind, width, shared_dim

    def feature_dim(self, side):
        return self.width


def takes(kind, weight):
    try:
        build_adapter(Config(kind, 4, 4), "context").load_affine(weight, torch.zeros(4))
    except ValueError:
        return False
    return True


def builds(kind, width, shared_dim):
    try:
        return build_adapter(Config(kind, width, shared_dim), "context").invertibility
    except ValueError:
        return None


def test_all_adapters_are_there():
    assert set(rows()) == set(ADAPTER_TYPES)
    assert OTMergeConfig().adapter_type == "mlp"


@pytest.mark.parametrize("kind", ADAPTER_TYPES)
def test_closed_forms_inverse_and_widths(kind):
    form, inverse, widths, _ = rows()[kind]
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))[0]
    positive = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    any_map = rotation @ positive
    taken = takes(kind, any_map), takes(kind, rotation), takes(kind, positive)
    expected = {"yes": (True, True, True), "no": (False, False, False)}
    expected["of orthogonal maps (`procrustes`)"] = (False, True, False)
    expected["of symmetric positive maps (`gaussian_monge`)"] = (False, False, True)
    assert taken == expected[form]
    built = builds(kind, 4, 4), builds(kind, 4, 6), builds(kind, 6, 4), builds(kind, 3, 3)
    if widths == "any":
        assert None not in built
    else:
        assert built[1:3] == (None, None)
        assert ("even" in widths) == (built[3] is None)
    if inverse.startswith("learned"):
        assert set(built) == {"none"}
    elif inverse == "exact":
        assert built[0] == "exact"
    else:  # linear, and the same for orthogonal
        assert built[:3] == ("exact", "left-inverse", "none")
