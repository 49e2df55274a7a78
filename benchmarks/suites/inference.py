"""The suite `inference`: one forward of the demonstration's merge, split into both encoders and everything else.

    python -m benchmarks run inference            # 64 and 224 px, batches of 1 and 32: a few minutes on one core
    python -m benchmarks run inference --quick    # 64 px only, into runs/

The encoders and the rest (standardisation, adapters, fuser, answer head) take turns; medians are kept. The share is
the rest over the sum of both; weights are untrained, which does not change the time.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..runner.cell import Cell, Place, Record, Suite


ROUNDS = 7
BAR = 0.10
BATCHES = (1, 32)


class Inference(Suite):
    """A cell is an image size."""

    name = "inference"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--quick", action="store_true", help="64 px only, three rounds")
        parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns that medians are taken over")
        parser.add_argument("--context-tokens", type=int, default=11, help="hidden layer of the image encoder")

    def is_trial(self, arguments: Namespace) -> bool:
        return bool(arguments.quick)

    def cells(self, arguments: Namespace) -> list[Cell]:
        if arguments.rounds < 1:
            raise ValueError(f"`rounds` is {arguments.rounds}; expected at least 1.")
        rounds = 3 if arguments.quick else arguments.rounds
        more = {} if rounds == ROUNDS else {"rounds": rounds}
        sizes = (64,) if arguments.quick else (64, 224)
        return [
            Cell(self.name, {"image_size": size, "context_tokens": arguments.context_tokens} | more) for size in sizes
        ]

    def label(self, cell: Cell) -> str:
        return f"{cell.choices['image_size']} px, hidden layer {cell.choices['context_tokens']}"

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.machine import machine
        from ..runner.measure import inference_times, shared_image_throughput, silence_transformers

        silence_transformers()
        size, rounds = cell.choices["image_size"], cell.choices.get("rounds", ROUNDS)
        model, processor = _build(size, cell.choices["context_tokens"])
        found: Record = {"machine": machine()}
        for place_in_order, batch in enumerate(BATCHES):
            found[f"batch_{batch}"] = inference_times(model, processor, size, batch, rounds=rounds)
            place.report_progress((place_in_order + 1) / 3)
        found["questions_per_second_of_ten"] = shared_image_throughput(model, processor, size, rounds=rounds)
        return found

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.write import write_table

        return [write_table(folder, _markdown(records), "Latency of a merge")]


def _build(size: int, tokens: int) -> tuple[Any, Any]:
    """The demonstration's merge at an image size."""
    from otmerge_hf import OTMergeForQuestionAnswering, OTMergeProcessor
    from otmerge_hf.encoders import convert_efficientnet_lite, minilm_l6_path

    context, query = str(convert_efficientnet_lite(image_size=size)), str(minilm_l6_path())
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(context, query, context_tokens=tokens, num_labels=13)
    return model.eval(), OTMergeProcessor.from_encoders_pretrained(context, query)


def _markdown(records: Sequence[Record]) -> str:
    records = sorted(records, key=lambda r: (r["settings"]["context_tokens"], r["settings"]["image_size"]))
    layers = sorted({record["settings"]["context_tokens"] for record in records})
    machines = sorted({", ".join(f"{k} {v}" for k, v in record["machine"].items()) for record in records})
    lines = [
        f"Hidden layer {' and '.join(map(str, layers))}; {'; '.join(machines)}.",
        "",
        "| image | batch | encoders, ms | rest, ms | whole, ms | share of latency outside the encoders |",
        "|---|---|---|---|---|---|",
    ]
    for record in records:
        for batch in BATCHES:
            row = record[f"batch_{batch}"]
            times = " | ".join(f"{row[f'{part}_ms']:.1f}" for part in ("encoders", "rest", "whole"))
            lines.append(f"| {_name(record, layers)} | {batch} | {times} | {row['rest_share']:.1%} |")
    lines += [
        "",
        "| image | questions/s with ten questions an image, image encoded once | encoded for each | ratio |",
        "|---|---|---|---|",
    ]
    for record in records:
        once, anew = (record["questions_per_second_of_ten"][name] for name in ("once", "anew"))
        lines.append(f"| {_name(record, layers)} | {once:.0f} | {anew:.0f} | {once / anew:.2f} |")
    for record in records:
        if record["settings"]["image_size"] == 224:
            share = record["batch_32"]["rest_share"]
            verdict = "met" if share <= BAR else "missed"
            lines += ["", f"Bar: at most {BAR:.0%} outside the encoders at batch 32, 224 px: {verdict}, {share:.1%}."]
    return "\n".join(lines) + "\n"


def _name(record: Record, layers: Sequence[int]) -> str:
    settings = record["settings"]
    return f"{settings['image_size']} px" + (f", layer {settings['context_tokens']}" if len(layers) > 1 else "")


SUITE = Inference()
