"""How well closed forms align two real encoders: pictures of emoji and their names, and names seen by two encoders.

Run from the repository root; parts may be named, results of the other parts are kept:

    python benchmarks/alignment.py                        # everything
    python benchmarks/alignment.py --parts closed cost

Writes benchmarks/results/alignment.json and alignment.md. A part is a function in PARTS that returns plain data, and
one in REPORTS that turns it into Markdown.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import resource
import time
from pathlib import Path

import torch

import alignment_training
import emoji
from otmerge_hf.alignment import (
    CCA,
    Procrustes,
    Ridge,
    SinkhornProcrustes,
    WassersteinProcrustes,
    preflight,
    pseudo_pairs,
)
from otmerge_hf.metrics import foscttm, retrieval


RESULTS = Path(__file__).resolve().parent / "results"
SIZES = [96, 160, 224]


def fresh(fit):
    return type(fit)(**fit.get_params())


def diagonal(count: int) -> torch.Tensor:
    return torch.arange(count)[:, None].expand(-1, 2)


# --- closed forms on all training pairs -------------------------------------------------------------------------


def closed_form_grid():
    yield from (Ridge(alpha, target=side) for alpha in (1.0, 10.0) for side in ("query", "context"))
    yield from (Procrustes(width) for width in (128, None))
    yield from (CCA(strength, correlation_weight=w) for strength in (0.3, 1.0, 3.0) for w in (0.0, 0.5, 1.0))


def closed(arguments) -> dict:
    data = emoji.load(arguments.emoji, SIZES, arguments.cache)
    rows, started = [], time.perf_counter()
    for size in SIZES:
        for pooling in ("mean", "max"):
            images = emoji.standardised({s: data.images[size][s][pooling][-1] for s in emoji.SPLITS})
            for captions in (("text",), emoji.VIEWS):
                rows += _closed_rows(images, data.texts, captions, {"image_size": size, "pooling": pooling})
                print(f"closed: {size} px, {pooling}, {len(captions)} caption(s) done", flush=True)
    best = {family: _best(rows, family=family) for family in ("Ridge", "Procrustes", "CCA")}
    winner = _best(rows)
    return {
        "candidates": len(data.texts["test"]["text"][-1]),
        "train_pairs": len(data.texts["train"]["text"][-1]),
        "feature_seconds": data.seconds,
        "fits_tried": len(rows),
        "seconds_all_fits": time.perf_counter() - started,
        "by_family": best,
        "by_pooling": {pooling: _best(rows, pooling=pooling) for pooling in ("mean", "max")},
        "by_captions": {str(n): _best(rows, captions=n) for n in (1, 3)},
        "winner": winner,
    }


def _closed_rows(images, texts, captions, about):
    train = [texts["train"][view][-1] for view in captions]
    views = {"train": torch.cat(train)} | {split: texts[split]["text"][-1] for split in ("validation", "test")}
    query = emoji.standardised(views)
    count = len(images["train"])
    # Several captions of one picture are several pairs with the same context row.
    pairs = torch.stack([torch.arange(count).repeat(len(captions)), torch.arange(count * len(captions))], dim=1)
    rows = []
    for fit in closed_form_grid():
        start = time.perf_counter()
        fit.fit(images["train"], query["train"], pairs)
        seconds = time.perf_counter() - start
        measured = {
            split: retrieval(fit.transform_context(images[split]), fit.transform_query(query[split]))
            for split in ("validation", "test")
        }
        gap = foscttm(fit.transform_context(images["test"]), fit.transform_query(query["test"]), similarity="cosine")
        rows.append(
            about
            | {"family": type(fit).__name__, "fit": repr(fit), "captions": len(captions), "seconds": seconds}
            | {"validation": measured["validation"]["mean_recall@1"], "test": measured["test"] | {"foscttm": gap}}
        )
    return rows


def _best(rows: list[dict], **where) -> dict:
    """The row with the best validation score; the test score is never looked at."""
    chosen = [row for row in rows if all(row[key] == value for key, value in where.items())]
    return max(chosen, key=lambda row: row["validation"])


def report_closed(part: dict) -> str:
    lines = [
        "## Closed forms on all training pairs",
        "",
        f"{part['train_pairs']} pairs, {part['candidates']} test candidates (chance {1 / part['candidates']:.4f}). "
        f"Each row is the best of its kind on validation (mean R@1 of both directions), of {part['fits_tried']} fits; "
        f"all of them together took {part['seconds_all_fits']:.0f} s.",
        "",
        "| best of | fit | image | captions | val. mean R@1 | test R@1 image->text | text->image | R@10 image->text "
        "| median rank | FOSCTTM | fit seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    named = {"all": part["winner"]} | part["by_family"]
    named |= {f"{key} pooling": row for key, row in part["by_pooling"].items()}
    named |= {f"{key} caption(s) a picture": row for key, row in part["by_captions"].items()}
    for name, row in named.items():
        test = row["test"]
        lines.append(
            f"| {name} | `{row['fit']}` | {row['image_size']} px, {row['pooling']} | {row['captions']} "
            f"| {row['validation']:.3f} | **{test['context_to_query_recall@1']:.3f}** "
            f"| {test['query_to_context_recall@1']:.3f} | {test['context_to_query_recall@10']:.3f} "
            f"| {test['context_to_query_median_rank']:.0f} | {test['foscttm']:.3f} | {row['seconds']:.2f} |"
        )
    lines += ["", "Mean pooling is the one that loads into a model: an affine map commutes with the mean of tokens."]
    return "\n".join(lines)


# --- trained heads ----------------------------------------------------------------------------------------------

# What a head looks at, at 224 px, and the share of features dropped (more where there are more).
TRAINED_FEATURES = {"mean": (("mean",), 0.5), "mean and max": (("mean", "max"), 0.7)}


def trained(arguments) -> dict:
    stored = arguments.output / "alignment.json"
    known = json.loads(stored.read_text()) if stored.exists() else {}
    if "closed" not in known:
        raise SystemExit("The trained heads are compared with the best closed form: run --parts closed first.")
    data = emoji.load(arguments.emoji, [224], arguments.cache)
    views = [data.texts["train"][view][-1] for view in emoji.VIEWS]
    asked = {split: data.texts[split]["text"][-1] for split in ("validation", "test")}
    texts = emoji.standardised({"train": torch.cat(views)} | asked)
    rows, closed_rows = [], []
    for name, (poolings, dropout) in TRAINED_FEATURES.items():
        maps = data.images[224]
        images = emoji.standardised(
            {s: torch.cat([maps[s][pooling][-1] for pooling in poolings], dim=1) for s in emoji.SPLITS}
        )
        forms = []
        for captions in (("text",), emoji.VIEWS):
            forms += _closed_rows(images, data.texts, captions, {"features": name})
        closed_rows.append(_best(forms))
        for loss, terms in alignment_training.LOSSES.items():
            captions = list(texts["train"].chunk(len(views)))
            runs = [
                alignment_training.train(images, captions, texts, terms, seed, dropout=dropout) for seed in range(3)
            ]
            scores = torch.tensor([[run[split] for split in ("validation", "test")] for run in runs])
            mean, error = scores.mean(0).tolist(), (scores.std(0) / len(runs) ** 0.5).tolist()
            row = {"features": name, "loss": loss, "runs": runs, "start": runs[0]["start"]["test"]}
            rows.append(row | {"validation": mean[0], "test": mean[1], "test_se": error[1]})
            print(f"trained: {name}, {loss}: validation {mean[0]:.3f}, test {mean[1]:.3f}", flush=True)
    return {"rows": rows, "closed": [_form(row) for row in [known["closed"]["winner"], *closed_rows]]}


def _form(row: dict) -> dict:
    seen = row.get("features") and f"224 px, {row['features']}"
    test = (row["test"]["context_to_query_recall@1"] + row["test"]["query_to_context_recall@1"]) / 2
    return {"fit": row["fit"], "validation": row["validation"], "test": test} | {
        "features": seen or f"{row['image_size']} px, {row['pooling']}"
    }


def report_trained(part: dict) -> str:
    best = max(part["rows"], key=lambda row: row["validation"])
    best_form = max(part["closed"], key=lambda row: row["validation"])
    lines = [
        "## Trained heads",
        "",
        "Linear heads that begin at a closed form (CCA, three captions a picture), 400 steps with dropout "
        "on the features; mean R@1 of both directions. Trained: three seeds, test +/- standard error over seeds. "
        "Closed forms: the best of their features on validation. One standard error over the 293 test pictures is "
        "about 0.02.",
        "",
        "| image | what | val. | test |",
        "|---|---|---|---|",
    ]
    for row in part["closed"]:
        name = f"**`{row['fit']}`**" if row is best_form else f"`{row['fit']}`"
        lines.append(f"| {row['features']} | {name} | {row['validation']:.3f} | {row['test']:.3f} |")
    for row in part["rows"]:
        name = f"**{row['loss']}**" if row is best else row["loss"]
        score = f"{row['validation']:.3f} | {row['test']:.3f} +/- {row['test_se']:.3f}"
        lines.append(f"| 224 px, {row['features']} | {name} | {score} |")
    ratio = best["test"] / best_form["test"]
    return "\n".join(
        [*lines, "", f"Bold: best on validation of its kind. Trained over closed form: {ratio:.2f} times."]
    )


# --- few pairs, the rest unpaired -------------------------------------------------------------------------------


def pairs_only_grid():
    yield from (Ridge(alpha, target=side) for alpha in (1.0, 10.0) for side in ("query", "context"))
    yield from (Procrustes(width) for width in (48, None))
    yield from (CCA(strength, correlation_weight=w) for strength in (1.0, 10.0) for w in (0.5, 1.0))


def unpaired_grid():
    for base in (Procrustes(), Procrustes(128), CCA(10.0, correlation_weight=0.5)):
        for epsilon in (0.03, 0.1):
            for weight in (0.1, 0.3):
                start = Ridge(10.0, target="context")
                yield SinkhornProcrustes(base, start, epsilon=epsilon, pair_weight=weight, iterations=15)


def few_pairs(arguments) -> dict:
    data = emoji.load(arguments.emoji, [160], arguments.cache)
    images = emoji.standardised({s: data.images[160][s]["mean"][-1] for s in emoji.SPLITS})
    context = emoji.principal(images, 256)
    query = emoji.standardised({s: data.texts[s]["text"][-1] for s in emoji.SPLITS})
    by_pairs = _few_pairs_study([(context, query)] * arguments.seeds)
    return {"seeds": arguments.seeds, "train_rows": len(context["train"]), "by_pairs": by_pairs}


def _few_pairs_study(sides: list[tuple[dict, dict]]) -> dict:
    """Scores by number of pairs, then by method; ``sides`` are the context and the query features of each seed."""
    groups = {"pairs only": list(pairs_only_grid()), "pairs + unpaired OT": list(unpaired_grid())}
    result: dict = {}
    for count in (50, 100, 200):
        chosen = {}
        for name, fits in groups.items():
            runs = [[_few(fresh(fit), *sides[seed], count, seed) for seed in range(len(sides))] for fit in fits]
            best = max(range(len(fits)), key=lambda i: sum(run["validation"] for run in runs[i]))
            chosen[name] = {"fit": repr(fits[best]), "runs": runs[best]}
            if name == "pairs + unpaired OT":
                # The same fit, but the two sides' unpaired rows are different emoji: only the clouds' shape can help.
                others = [
                    _few(fresh(fits[best]), *sides[seed], count, seed, disjoint=True) for seed in range(len(sides))
                ]
                chosen["the same, no counterparts"] = {"fit": repr(fits[best]), "runs": others}
            else:
                guessed = [_self_trained(fits[best], *sides[seed], count, seed) for seed in range(len(sides))]
                chosen["pairs only + mutual neighbours as pairs"] = {"fit": repr(fits[best]), "runs": guessed}
            print(f"few pairs: {count}, {name} done", flush=True)
        plain = WassersteinProcrustes(restarts=5, iterations=15, batch_size=600)
        runs = [_few(fresh(plain), *sides[seed], count, seed) for seed in range(len(sides))]
        chosen["Wasserstein-Procrustes"] = {"fit": repr(plain), "runs": runs}
        baseline = torch.tensor([run["test"] for run in chosen["pairs only"]["runs"]])
        for entry in chosen.values():
            scores = torch.tensor([run["test"] for run in entry["runs"]])
            gain = scores - baseline
            entry |= {
                "test_mean": float(scores.mean()),
                "test_se": float(scores.std() / math.sqrt(len(scores))),
                "gain_mean": float(gain.mean()),
                "gain_se": float(gain.std() / math.sqrt(len(gain))),
            }
        result[str(count)] = chosen
    return result


def _few(fit, context, query, count: int, seed: int, disjoint: bool = False) -> dict:
    x, y, pairs = _few_data(context["train"], query["train"], count, seed, disjoint)
    fit.fit(x, y, pairs)
    return {split: fit.score(context[split], query[split]) for split in ("validation", "test")}


def _few_data(x, y, count, seed, disjoint=False):
    """``count`` pairs first; the rest of each side in its own random order, so that no row number gives a match."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    paired, free = order[:count], order[count:]
    left, right = (free[: len(free) // 2], free[len(free) // 2 :]) if disjoint else (free, free)
    left, right = (rows[torch.randperm(len(rows), generator=generator)] for rows in (left, right))
    return x[torch.cat([paired, left])], y[torch.cat([paired, right])], diagonal(count)


def _self_trained(fit, context, query, count: int, seed: int) -> dict:
    x, y, pairs = _few_data(context["train"], query["train"], count, seed)
    fit = fresh(fit).fit(x, y, pairs)
    guessed, _ = pseudo_pairs(fit, x, y, known=pairs)
    fit = fresh(fit).fit(x, y, torch.cat([pairs, guessed]))
    return {split: fit.score(context[split], query[split]) for split in ("validation", "test")}


def report_few_pairs(part: dict) -> str:
    lines = [
        "## Few pairs, the rest unpaired",
        "",
        f"Training split of {part['train_rows']} emoji at 160 px: so many pairs, every other picture and every other "
        f"text unpaired and shuffled. Mean R@1 of both directions on test, {part['seeds']} seeds, mean +/- standard "
        "error; the gain is paired by seed. Settings chosen on validation for each number of pairs.",
        "",
    ]
    return "\n".join(lines + _few_pairs_table(part["by_pairs"]))


def _few_pairs_table(by_pairs: dict) -> list[str]:
    lines = [
        "| pairs | what | fit | test mean R@1 | gain over pairs only | beats it by more than its standard error |",
        "|---|---|---|---|---|---|",
    ]
    for count, chosen in by_pairs.items():
        for name, row in chosen.items():
            verdict = "" if name == "pairs only" else ("yes" if row["gain_mean"] > row["gain_se"] else "no")
            lines.append(
                f"| {count} | {name} | `{row['fit']}` | {row['test_mean']:.4f} +/- {row['test_se']:.4f} "
                f"| {row['gain_mean']:+.4f} +/- {row['gain_se']:.4f} | {verdict} |"
            )
    return lines


# --- the same with two text encoders ----------------------------------------------------------------------------


def text_text(arguments) -> dict:
    texts = emoji.load(arguments.emoji, [], arguments.cache).texts
    others = emoji.load_minilm_l3(arguments.emoji, arguments.cache)
    context = emoji.standardised({s: texts[s]["text"][-1] for s in emoji.SPLITS})
    # Both encoders may share axes by their common origin; behind a random rotation only what is learnt can help.
    turned = [
        emoji.standardised({s: others[s]["text"][-1] @ _rotation(384, seed) for s in emoji.SPLITS})
        for seed in range(arguments.seeds)
    ]
    result = {"seeds": arguments.seeds, "train_rows": len(context["train"]), "candidates": len(context["test"])}
    unmapped = [retrieval(context["test"], query["test"])["mean_recall@1"] for query in turned]
    result["unmapped_test_mean"] = sum(unmapped) / len(unmapped)
    whole = [
        Procrustes().fit(context["train"], query["train"]).score(context["test"], query["test"]) for query in turned
    ]
    result["all_pairs_test_mean"] = sum(whole) / len(whole)
    return result | {"by_pairs": _few_pairs_study([(context, query) for query in turned])}


def _rotation(width: int, seed: int) -> torch.Tensor:
    """A rotation or reflection drawn uniformly."""
    generator = torch.Generator().manual_seed(1000 + seed)
    q, r = torch.linalg.qr(torch.randn(width, width, generator=generator))
    return q * r.diagonal().sign()


def report_text_text(part: dict) -> str:
    lines = [
        "## Two text encoders, few pairs",
        "",
        f"MiniLM-L6 against MiniLM-L3 on the names and keywords of {part['train_rows']} emoji, the second side behind "
        f"a random rotation, one for each seed; {part['candidates']} test candidates. Without any map the mean R@1 "
        f"is {part['unmapped_test_mean']:.4f} (chance {1 / part['candidates']:.4f}); Procrustes on all training pairs "
        f"reaches {part['all_pairs_test_mean']:.4f}. Pairs, seeds, choice and columns as in the study before.",
        "",
    ]
    return "\n".join(lines + _few_pairs_table(part["by_pairs"]))


# --- what the encoders share ------------------------------------------------------------------------------------


def shared_structure(arguments) -> dict:
    data = emoji.load(arguments.emoji, [160], arguments.cache)
    depth = len(data.images[160]["train"]["mean"])
    images = {f"map {i}": data.images[160]["train"]["mean"][i] for i in (1, 6, 11, depth - 2, depth - 1)}
    texts = {f"hidden {i}": data.texts["train"]["text"][i] for i in (0, 3, 6)}
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(texts["hidden 0"]), 384, generator=generator)
    return {
        "emoji": str(preflight(images, texts, max_pairs=500)),
        "against noise": str(preflight(images, {"noise": noise}, max_pairs=500)),
    }


def report_shared_structure(part: dict) -> str:
    blocks = [f"{name}:\n\n```\n{text}\n```" for name, text in part.items()]
    return "\n\n".join(["## Pre-flight: what the two encoders share", *blocks])


# --- cost of a fit at 100k --------------------------------------------------------------------------------------


def cost(arguments) -> dict:
    rows = []
    for name in ("Procrustes", "CCA", "Ridge"):
        # A process of its own, so that its peak memory is that of this fit alone.
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            rows.append(pool.apply(_cost_of, (name, arguments.threads)))
        print(f"cost: {name} done", flush=True)
    return {"rows": rows}


def _cost_of(name: str, threads: int) -> dict:
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    x, y = torch.randn(100_000, 1024, generator=generator), torch.randn(100_000, 768, generator=generator)
    inputs = (x.nbytes + y.nbytes) / 2**20
    start = time.perf_counter()
    {"Procrustes": Procrustes, "CCA": CCA, "Ridge": Ridge}[name]().fit(x, y)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return {"fit": name, "seconds": seconds, "inputs_mib": inputs, "peak_mib": peak, "ratio": peak / inputs}


def report_cost(part: dict) -> str:
    lines = [
        "## Cost of a fit: 100,000 x 1024 against 100,000 x 768, float32",
        "",
        "Peak memory is the process's peak less what it held before the inputs were made; the inputs are in it.",
        "",
        "| fit | seconds | inputs, MiB | peak, MiB | peak / inputs |",
        "|---|---|---|---|---|",
    ]
    for row in part["rows"]:
        lines.append(
            f"| {row['fit']} | {row['seconds']:.1f} | {row['inputs_mib']:.0f} | {row['peak_mib']:.0f} "
            f"| {row['ratio']:.2f} |"
        )
    return "\n".join(lines)


# --- the whole --------------------------------------------------------------------------------------------------

PARTS = {
    "closed": closed,
    "trained": trained,
    "few_pairs": few_pairs,
    "text_text": text_text,
    "shared": shared_structure,
    "cost": cost,
}
REPORTS = {
    "closed": report_closed,
    "trained": report_trained,
    "few_pairs": report_few_pairs,
    "text_text": report_text_text,
    "shared": report_shared_structure,
    "cost": report_cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--emoji", type=Path, help="imagefolder of emoji; by default made from npm packages")
    parser.add_argument("--cache", type=Path, default=emoji.REPOSITORY / "runs" / "alignment-benchmark")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of alignment.json and alignment.md")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    target = arguments.output / "alignment.json"
    for name in arguments.parts:
        part = PARTS[name](arguments) | {
            "machine": {
                "cores": os.cpu_count(),
                "threads": arguments.threads,
                "torch": torch.__version__,
                "python": platform.python_version(),
            }
        }
        # Read only now: another part may have been written meanwhile.
        results = json.loads(target.read_text()) if target.exists() else {}
        results[name] = part
        arguments.output.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(results, indent=1) + "\n")
        _write_report(results, arguments.output / "alignment.md")
        print(REPORTS[name]({key: value for key, value in results[name].items() if key != "machine"}), "\n")


def _write_report(results: dict, path: Path) -> None:
    blocks = ["# Alignment of EfficientNet-Lite0 and MiniLM-L6 on emoji", "Made by `python benchmarks/alignment.py`."]
    for name, report in REPORTS.items():
        if name in results:
            part = dict(results[name])
            machine = part.pop("machine")
            blocks += [report(part), "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()) + "."]
    path.write_text("\n\n".join(blocks) + "\n")


if __name__ == "__main__":
    main()
