"""The suite `preservation`: its adapter's inverse, its cells on tiny photographs, and its committed table."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
import torch
from photograph_folders import write_folders

from benchmarks.methods.read_out import ReadOutAdapter
from benchmarks.report import trade_off
from benchmarks.report.preservation import by_row, markdown
from benchmarks.runner.records import Records
from benchmarks.suites import preservation_entailment as entailment
from benchmarks.suites.preservation import CLOSED, SEEDS, STATEMENTS, SUITE, TRAINED
from benchmarks.tasks.esnlive_f8k import ANSWERS, read_esnlive_f8k
from benchmarks.tasks.photographs import Example, Labelled
from otmerge_hf import OTMergeModel
from otmerge_hf.data import load_pair_splits


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


def test_what_is_aligned_on_has_no_labelled_photograph(tmp_path):
    data, first = write_folders(tmp_path), {"train": 0, "validation": 6, "test": 8}
    rows = {}
    for name, splits in load_pair_splits(str(data / "flickr8k")).items():
        rows[f"{name}.context"] = first[name] + torch.arange(len(splits.images))[:, None]  # of the photograph p2: 2
        rows[f"{name}.query"] = torch.tensor([[int(text.split()[1])] for text in splits.texts])  # "the 2 shape 0": 2
        rows[f"{name}.pairs"] = splits.pairs
    kept = entailment._unlabelled(rows, read_esnlive_f8k(data), data)
    assert kept["train.context"][:, 0].tolist() == [0, 1, 3, 4], "p2 and p5 are about entailment"
    assert len(kept["train.query"]) == len(kept["train.pairs"]) == 20
    for name in first:
        columns = (
            kept[f"{name}.{side}"][kept[f"{name}.pairs"][:, i], 0] for i, side in enumerate(("context", "query"))
        )
        assert torch.equal(*columns), "a photograph and its captions"
    assert kept["test.context"] is rows["test.context"]


def test_entailment_is_read_off_the_cosine_where_words_say_nothing(merge):
    """Hypotheses point along their photograph, across it, or against it."""
    generator = torch.Generator().manual_seed(0)
    photographs = torch.nn.functional.normalize(torch.randn(90, 16, generator=generator), dim=1)
    files, texts, examples, queries = [], [], [], []
    for place, photograph in enumerate(photographs):
        files.append(Path(f"{place}.jpg"))
        for answer, sign in zip(ANSWERS, (1, 0, -1), strict=True):
            queries.append(sign * photograph + 0.05 * torch.randn(16, generator=generator))
            texts.append(f"{answer} {place}")
            examples.append(Example(files[-1], texts[-1], answer))
    model = merge(cls=OTMergeModel, adapter_type="orthogonal")
    model.query_adapter.load_state_dict(model.context_adapter.state_dict())  # a turn that both sides share
    own = Labelled("some", ANSWERS, examples[:180], examples[180:], files, texts)
    found = entailment._entailed(model, own, {"context": photographs, "query": torch.stack(queries)}, seed=0)
    assert found["labels"] == 180
    assert found["auc"] == 1.0
    assert found["entailment"] > 0.95
    assert found["words"] < 0.6
    assert "cosine" in found["kept"]


def test_committed_cells_are_all_there_and_in_the_table():
    records = list(Records(RESULTS / "cells.jsonl").read().values())
    counts = {
        data: Counter({row: len(cells) for row, cells in rows.items()}) for data, rows in by_row(records).items()
    }
    trained = Counter(dict.fromkeys(TRAINED, SEEDS))
    assert counts["flickr8k"] == Counter(CLOSED) + trained
    assert counts["easy-vqa"] == Counter(dict.fromkeys(STATEMENTS, SEEDS))
    entailed = counts["esnlive_f8k"]  # a seed draws validation for closed forms, too; a trained adapter may have fewer
    assert {row: entailed[row] for row in CLOSED} == dict.fromkeys(CLOSED, SEEDS)
    assert set(entailed) == {*CLOSED, *TRAINED}
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
    entailed = by_row(Records(RESULTS / "cells.jsonl").read().values())["esnlive_f8k"]
    point = next(point for point in trade_off.points(entailed) if point.row == trained)
    gains = [cell["entailment"] - cell["words"] for cell in entailed[trained]]
    assert point.gain.mean == pytest.approx(sum(gains) / len(gains))
    drawn = trade_off.draw_entailment(entailed, tmp_path / "entailment.png")
    assert drawn.read_bytes()[:4] == b"\x89PNG"
    drawn = trade_off.draw_trade_off(cells, tmp_path / "trade-off.png")
    assert drawn.read_bytes()[:4] == b"\x89PNG"
