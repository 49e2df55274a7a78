"""Time one forward of the demonstration's merge, split into both encoders and everything else.

    python benchmarks/inference.py            # 64 and 224 px, batches of 1 and 32: a few minutes on one core
    python benchmarks/inference.py --quick    # 64 px only

The encoders and the rest (standardisation, adapters, fuser, answer head) take turns; medians are kept. The share is
the rest over the sum of both; weights are untrained, which does not change the time.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeProcessor
from otmerge_hf.encoders import convert_efficientnet_lite, minilm_l6_path
from otmerge_hf.suites.measure import inference_times, machine, shared_image_throughput


HERE = Path(__file__).parent
BAR = 0.10


def main() -> None:
    """Measure, print and write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 px only, three rounds")
    parser.add_argument("--rounds", type=int, default=7, help="turns that medians are taken over")
    parser.add_argument("--context-tokens", type=int, default=11, help="hidden layer of the image encoder")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder for inference.json and .md")
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    rounds = 3 if options.quick else options.rounds
    report: dict[str, Any] = {"machine": machine(), "context_tokens": options.context_tokens, "sizes": {}}
    for size in (64,) if options.quick else (64, 224):
        model, processor = build(size, options.context_tokens)
        found: dict[str, Any] = {
            f"batch_{batch}": inference_times(model, processor, size, batch, rounds=rounds) for batch in (1, 32)
        }
        found["questions_per_second_of_ten"] = shared_image_throughput(model, processor, size, rounds=rounds)
        report["sizes"][str(size)] = found
    table = markdown(report)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "inference.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.output / "inference.md").write_text(table)
    print(table)


def build(size: int, tokens: int) -> tuple[OTMergeForQuestionAnswering, OTMergeProcessor]:
    """The demonstration's merge at an image size."""
    context, query = str(convert_efficientnet_lite(image_size=size)), str(minilm_l6_path())
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(context, query, context_tokens=tokens, num_labels=13)
    return model.eval(), OTMergeProcessor.from_encoders_pretrained(context, query)


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    lines = [
        f"Hidden layer {report['context_tokens']}; {', '.join(f'{k} {v}' for k, v in report['machine'].items())}.",
        "",
        "| image | batch | encoders ms | rest ms | whole ms | rest of all |",
        "|---|---|---|---|---|---|",
    ]
    for size, found in report["sizes"].items():
        for batch in (1, 32):
            row = found[f"batch_{batch}"]
            times = " | ".join(f"{row[f'{part}_ms']:.1f}" for part in ("encoders", "rest", "whole"))
            lines.append(f"| {size} px | {batch} | {times} | {row['rest_share']:.1%} |")
    lines += ["", "| image | ten questions, image encoded once | anew for each | ratio |", "|---|---|---|---|"]
    for size, found in report["sizes"].items():
        once, anew = (found["questions_per_second_of_ten"][name] for name in ("once", "anew"))
        lines.append(f"| {size} px | {once:.0f}/s | {anew:.0f}/s | {once / anew:.2f} |")
    if "224" in report["sizes"]:
        share = report["sizes"]["224"]["batch_32"]["rest_share"]
        verdict = "met" if share <= BAR else "missed"
        lines += [
            "",
            f"Bar: everything but the encoders at most {BAR:.0%} at batch 32, 224 px: {verdict}, {share:.1%}.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
