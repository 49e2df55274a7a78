"""The suite `int8`: a trained merge by onnxruntime, in float32 and with weights of 8 bits, on the test questions.

    otmerge train --data easy-vqa ... --output runs/easy
    python -m benchmarks run int8 --merge runs/easy --data easy-vqa
    python -m benchmarks run int8 --merge runs/snli --data FOLDER --train-split validation --test-split test

Each image and each text goes through its tower once; the answerer scores every question. The command that trained the
merge, as its `results.json` has it, is a part of the cell.
"""

import json
import os
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..runner.cell import Cell, Place, Record, Suite


MERGE, DATA = (
    "OTMERGE_INT8_MERGE",
    "OTMERGE_INT8_DATA",
)  # folders reach the worker by the environment, not its settings
GRAPHS = {"float32": "", "int8": "int8"}
BATCH = 256


class Int8(Suite):
    """A cell is a data set and the command that trained the merge."""

    name = "int8"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--merge", type=Path, help="folder that `otmerge train` wrote")
        parser.add_argument("--data", default="easy-vqa", help="as of `otmerge train`")
        parser.add_argument("--train-split")
        parser.add_argument("--test-split")

    def cells(self, arguments: Namespace) -> list[Cell]:
        if arguments.merge is None or not (arguments.merge / "results.json").is_file():
            raise ValueError(f"`merge` is {arguments.merge}; expected a folder that `otmerge train` wrote.")
        command = json.loads((arguments.merge / "results.json").read_text())["settings"]["command"]
        os.environ[MERGE], os.environ[DATA] = str(arguments.merge.resolve()), arguments.data
        splits = {name: value for name in ("train_split", "test_split") if (value := getattr(arguments, name))}
        return [Cell(self.name, {"data": Path(arguments.data).name, "trained_by": command, "splits": splits})]

    def label(self, cell: Cell) -> str:
        return str(cell.choices["data"])

    def measure(self, cell: Cell, place: Place) -> Record:
        from otmerge_hf import OTMergeForQuestionAnswering, OTMergeProcessor
        from otmerge_hf.data import load_questions
        from otmerge_hf.data.answers import Answers
        from otmerge_hf.export import export_onnx

        from ..runner.machine import machine

        asked = load_questions(os.environ[DATA], **cell.choices["splits"]).test
        model = OTMergeForQuestionAnswering.from_pretrained(os.environ[MERGE]).eval()
        processor, answers = OTMergeProcessor.from_pretrained(os.environ[MERGE]), Answers.of_config(model.config)
        found: Record = {"questions": len(asked)}
        with tempfile.TemporaryDirectory() as scratch:
            folder = export_onnx(model, Path(scratch) / "onnx", processor, int8=True)
            for name, graphs in GRAPHS.items():
                logits = _logits(folder / graphs, processor, asked)
                scores = answers.scores(logits, asked.answers)
                found[name] = {
                    "accuracy": sum(scores) / len(scores),
                    "answers": logits.argmax(dim=-1).tolist(),
                    "mib": sum(path.stat().st_size for path in (folder / graphs).glob("*.onnx")) / 2**20,
                }
                place.report_progress((len(found) - 1) / len(GRAPHS))
        said = [found[name].pop("answers") for name in GRAPHS]
        found["same_answer"] = sum(a == b for a, b in zip(*said, strict=True)) / len(asked)
        return found | {"machine": machine()}

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.write import write_table

        lines = [
            "Accuracy of one merge on all test questions, by onnxruntime; matrix products and word embeddings with "
            "weights of 8 bits.",
            "",
            "| data | questions | float32 | int8 | difference, points | same answer | float32, MiB | int8, MiB |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for record in records:
            plain, small = (record[name] for name in GRAPHS)
            points = 100 * (small["accuracy"] - plain["accuracy"])
            start = f"| {record['settings']['data']} | {record['questions']:,} | {plain['accuracy']:.4f} "
            middle = f"| {small['accuracy']:.4f} | {points:+.2f} | {record['same_answer']:.4f} "
            lines.append(f"{start}{middle}| {plain['mib']:.1f} | {small['mib']:.1f} |")
        commands = [f"- {record['settings']['data']}: `{record['settings']['trained_by']}`" for record in records]
        lines += ["", "The merges were trained by:", "", *commands]
        return [write_table(folder, "\n".join(lines) + "\n", "A merge with weights of 8 bits")]


def _logits(folder: Path, processor: Any, asked: Any) -> Any:
    """Logits (N, num_labels) of all questions, each distinct image and text encoded once."""
    import numpy as np
    import onnxruntime
    import torch

    def run(part: str, given: dict[str, Any]) -> dict[str, Any]:
        session = sessions[part]
        taken = {node.name: np.asarray(given[node.name]) for node in session.get_inputs()}
        return dict(zip([node.name for node in session.get_outputs()], session.run(None, taken), strict=True))

    def parts(count: int) -> Iterator[slice]:
        return (slice(start, start + BATCH) for start in range(0, count, BATCH))

    sessions = {
        name: onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("context_tower", "query_tower", "answerer")
    }
    made = [
        run("context_tower", processor(images=asked.images[part], return_tensors="np"))
        for part in parts(len(asked.images))
    ]
    context = {name: np.concatenate([each[name] for each in made]) for name in made[0]}
    logits = []
    texts = [asked.texts[row] for row in asked.text_rows]
    known: dict[str, dict[str, Any]] = {}
    for part in parts(len(texts)):
        for text in set(texts[part]) - set(known):  # one by one: activations are scaled over the batch
            known[text] = run("query_tower", processor(text=[text], return_tensors="np"))
        longest = max(known[text]["query_features"].shape[1] for text in texts[part])
        query = {
            name: np.concatenate([_pad(known[text][name], longest) for text in texts[part]])
            for name in ("query_features", "query_features_mask")
            if name in known[texts[0]]
        }
        rows = asked.image_rows[part]
        logits.append(run("answerer", {name: value[rows] for name, value in context.items()} | query)["logits"])
    return torch.from_numpy(np.concatenate(logits))


def _pad(values: Any, length: int) -> Any:
    import numpy as np

    return np.pad(values, [(0, 0), (0, length - values.shape[1])] + [(0, 0)] * (values.ndim - 2))


SUITE = Int8()
