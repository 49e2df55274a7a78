"""The suite `preservation`: its adapter's inverse, its cells on tiny photographs, and its committed table."""

import itertools
from pathlib import Path

import pytest
import torch
from photograph_folders import write_folders

from benchmarks.methods.read_out import ReadOutAdapter
from benchmarks.report import trade_off
from benchmarks.report.preservation import by_row, markdown
from benchmarks.runner.records import Records
from benchmarks.suites.preservation import CLOSED, SEEDS, STATEMENTS, SUITE, TRAINED


RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "preservation"


@pytest.mark.parametrize(
    ("width", "out", "read", "lead", "couplings"),
    [(12, 12, 4, 4, 1), (12, 12, 4, 4, 3), (12, 20, 6, 0, 1), (8, 20, 6, 6, 2)],
)
@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_read_out_has_an_exact_left_inverse(width, out, read, lead, couplings, scale):
    torch.manual_seed(0)
    adapter = ReadOutAdapter(width, out, read, lead, scale, couplings, hidden_dim=16).double()
    x = torch.randn(50, width, dtype=torch.float64)
    with torch.no_grad():
        z = adapter(x)
        assert (adapter.inverse(z) - x).norm() / x.norm() < 1e-12
    assert z.shape == (50, out)
    assert adapter.invertibility == ("exact" if width == out else "left-inverse")


def test_read_out_with_room_is_any_network_beside_a_copy():
    torch.manual_seed(0)
    adapter = ReadOutAdapter(8, 20, read=6, lead=0, scale=0.5)
    x = torch.randn(5, 8)
    with torch.no_grad():
        z, copy = adapter(x), torch.nn.functional.pad(adapter.square(x), (0, 6))
        assert torch.allclose(z[:, :6], adapter.networks[0](copy)[:, 6:])  # the shift: there is nothing to scale
        assert torch.allclose(z[:, 6:], 0.5 * copy)


def test_read_out_starts_as_the_linear_map():
    start, bias = torch.randn(6, 6), torch.randn(2)
    adapter = ReadOutAdapter(6, 9, read=2, lead=2, scale=0.1, couplings=2, start=start, bias=bias)
    x = torch.randn(5, 6)
    y = x @ start.T
    expected = torch.cat([y[:, :2] + bias, 0.1 * y[:, 2:], torch.zeros(5, 3)], dim=1)
    assert torch.allclose(adapter(x), expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("adapter", "width", "scale", "weight", "way"),
    [("cca", 4, 0.01, 0.0, "inverse"), ("mlp", 4, None, 1.0, "decoder"), ("coupling", 4, 1.0, 0.0, "inverse"),
     ("linear", 4, None, 0.0, "fitted")],
)  # fmt: skip
def test_a_cell_on_tiny_photographs(adapter, width, scale, weight, way, tmp_path, monkeypatch):
    from benchmarks.suites import preservation_flickr8k as part

    monkeypatch.setattr(part, "STEPS", 2)
    choices = {"adapter": adapter, "shared_dim": width, "scale": scale, "reconstruction_weight": weight, "seed": 0}
    (tmp_path / "cache").mkdir()
    found = part.measure(choices, write_folders(tmp_path / "data"), tmp_path / "cache")
    assert found["context"]["way"] == way
    assert 0 <= found["recall"] <= 1
    if way == "inverse":
        assert found["context"]["error"] < 1e-5
        assert found["context"]["top1"] == found["query"]["nearest"] == 1


def test_committed_cells_are_all_there_and_in_the_table():
    records = list(Records(RESULTS / "cells.jsonl").read().values())
    assert len(records) == len(CLOSED) + SEEDS * (len(TRAINED) + len(STATEMENTS))
    assert all(SUITE.label(type("C", (), {"choices": record["settings"]})) for record in records)
    assert (RESULTS / "table.md").read_text().endswith(markdown(records))


def test_the_plot_has_the_cells_means_and_joins_what_differs_by_one_setting(tmp_path):
    cells = by_row(Records(RESULTS / "cells.jsonl").read().values())["flickr8k"]
    made = {(point.row, point.way): point for point in trade_off.points(cells)}
    trained = ("mlp", 128, None, 10.0)
    for way, images in (("decoder", [c["context"] for c in cells[trained]]),
                        ("fitted", [c["context"]["fitted"] for c in cells[trained]])):  # fmt: skip
        point = made[trained, way]
        assert (point.top1, point.kl) == pytest.approx(
            tuple(sum(image[name] for image in images) / SEEDS for name in ("top1", "kl"))
        )
        assert point.recall.mean == pytest.approx(sum(cell["recall"] for cell in cells[trained]) / SEEDS)
    for line in trade_off._lines(list(made.values())):
        for one, other in itertools.pairwise(line):
            assert one.way == other.way
            assert sum(a != b for a, b in zip(one.row, other.row, strict=True)) == 1
    labels = [text for text, _ in trade_off._labels(list(made.values()), lambda p: p.recall)]
    assert "128: weight 0, 1, 10" in labels
    drawn = trade_off.draw_trade_off(cells, tmp_path / "trade-off.png")
    assert drawn.read_bytes()[:4] == b"\x89PNG"
