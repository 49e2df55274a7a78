"""One pair of encoders of the suite `zoo`, through everything that the README promises of any pair.

Each check ends as `ok`; `refused: ...`, one line raised by the package; `differs: ...`; or `traceback: ...`, an error
from below the package.
"""

import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor, pipeline

import otmerge_hf
from otmerge_hf import OTMergeForQuestionAnswering, OTMergeProcessor
from otmerge_hf.features import encode
from otmerge_hf.model.encoders import encoder_part

from .zoo_build import FAMILIES
from .zoo_families import AUDIO
from .zoo_inputs import RATE, Batches
from .zoo_texts import TEXTS


CHECKS = ("forward", "alone", "step", "reload", "cached", "processor", "unmerge")  # in this order
NO_PROCESSOR = "no processor offline"
ROUNDING = 1e-4  # of the largest value, in float32: batches of other sizes are summed in another order
ROWS = (0, 1, 2)
_OURS = str(Path(otmerge_hf.__file__).parent)
_ANSWERS = {0: "red", 1: "green", 2: "blue"}


def outcome(work: Callable[[], str | None]) -> str:
    """Run a check: what it says, `ok` where it says nothing, or how it failed."""
    try:
        return work() or "ok"
    except Exception as error:
        deepest = traceback.extract_tb(error.__traceback__)[-1]
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if deepest.filename.startswith(_OURS) and isinstance(error, (ValueError, TypeError, OSError)):
            return f"refused: {line}"
        return f"traceback: {type(error).__name__}: {line} ({Path(deepest.filename).name})"


def check_pair(context: str, query: str, folders: Mapping[str, Path], work: Path) -> dict[str, str]:
    """Run every check but `remote`.

    Args:
        context: Name of a family.
        query: Name of a family of texts.
        folders: Where each family lies.
        work: A folder for this pair; the merge is left in `merge`, what it was given and gave in `given.pt`.

    Returns:
        How each check ended; only `build` where that was not `ok`.
    """
    sources = str(folders[context]), str(folders[query])
    made: list[OTMergeForQuestionAnswering] = []

    def build() -> None:
        torch.manual_seed(0)
        names = {name: i for i, name in _ANSWERS.items()}
        options: dict[str, Any] = {"shared_dim": 16, "fuser_num_heads": 2, "id2label": _ANSWERS, "label2id": names}
        made.append(OTMergeForQuestionAnswering.from_encoders_pretrained(*sources, **options).eval())

    found = {"build": outcome(build)}
    if found["build"] != "ok":
        return found
    pair = _Pair(context, query, made[0], sources, work)
    return found | {name: outcome(getattr(pair, name)) for name in CHECKS}


class _Pair:
    """A merge that was built, and its checks by name, in the order of running."""

    def __init__(self, context: str, query: str, model: OTMergeForQuestionAnswering, sources: Any, work: Path) -> None:
        self.context, self.query, self.model, self.sources, self.work = context, query, model, sources, work
        self.has_processor = all(FAMILIES[name].processor for name in (context, query))
        self.made: Any = None

    def batches(self) -> Batches:
        if self.has_processor and self.made is None:
            self.made = OTMergeProcessor.from_encoders_pretrained(*self.sources)
        return Batches(self.context, self.model, self.made)

    def run(self, model: Any, batch: Mapping[str, torch.Tensor]) -> Any:
        with torch.no_grad():
            return model(**batch)

    def forward(self) -> str | None:
        outputs = self.run(self.model, self.batches()(ROWS))
        if not all(torch.isfinite(outputs[name]).all() for name in _COMPARED):
            return "differs: not finite"
        return None

    def alone(self) -> str | None:
        batches = self.batches()
        together = self.run(self.model, batches(ROWS))
        rows = [self.run(self.model, batches([row])) for row in ROWS]
        return compare(together, {name: torch.cat([row[name] for row in rows]) for name in _COMPARED})

    def step(self) -> str | None:
        model, encoders = self.model, list(self.model.named_encoders().values())
        before = {name: value.clone() for name, value in model.state_dict().items()}
        learned = {name: value for name, value in model.named_parameters() if value.requires_grad}
        optimizer = torch.optim.Adam(learned.values(), lr=1e-3)
        model.train()(**self.batches()(ROWS), labels=torch.tensor(ROWS)).loss.backward()
        optimizer.step()
        model.eval()
        frozen = {id(v) for encoder in encoders for v in encoder.state_dict(keep_vars=True).values()}
        for name, value in model.state_dict(keep_vars=True).items():
            if id(value) in frozen and not torch.equal(value, before[name]):
                return f"differs: {name} is frozen, and moved"
        moved = {
            name.removeprefix("otmerge.").split(".")[0] for name in learned if (learned[name] != before[name]).any()
        }
        still = {"context_adapter", "query_adapter", "fuser", "classifier"} - moved
        return f"differs: {', '.join(sorted(still))} did not move" if still else None

    def reload(self) -> str | None:
        folder, batch = self.work / "merge", self.batches()(ROWS)
        outputs = self.run(self.model, batch)
        self.model.save_pretrained(folder)
        torch.save({"batch": batch, "logits": outputs.logits}, self.work / "given.pt")
        again = OTMergeForQuestionAnswering.from_pretrained(folder).eval()
        held, kept = self.model.state_dict(), again.state_dict()
        wrong = [name for name in held if name not in kept or not torch.equal(held[name], kept[name])]
        return f"differs: {wrong[0]}" if wrong else compare(outputs, self.run(again, batch), rounding=0.0)

    def cached(self) -> str | None:
        if not self.has_processor:
            return NO_PROCESSOR
        batches = self.batches()
        given: dict[str, Any] = {}
        for side, items in (("context", batches.items), ("query", list(TEXTS))):
            rate = RATE if side == "context" and self.context in AUDIO else None
            options: dict[str, Any] = {"cache_dir": self.work / "features", "sampling_rate": rate, "progress": False}
            store = encode(self.model, self.made, side, items, batch_size=2, **options)
            features, mask = store.batch(ROWS)
            given |= {f"{side}_features": features, f"{side}_features_mask": mask}
        return compare(self.run(self.model, batches(ROWS)), self.run(self.model, given))

    def processor(self) -> str | None:
        if not self.has_processor:
            return NO_PROCESSOR
        folder, batches = self.work / "merge", self.batches()
        self.made.save_pretrained(folder)
        self.made.check_model(self.model)
        first, second = batches(ROWS), Batches(self.context, self.model, AutoProcessor.from_pretrained(folder))(ROWS)
        if first.keys() != second.keys() or not all(torch.equal(first[name], second[name]) for name in first):
            return "differs: the saved processor makes other tensors"
        if self.context in AUDIO:  # the pipeline looks at images and passages
            return None
        pipe: Any = pipeline("otmerge-vqa", model=str(folder), device="cpu")  # type: ignore[call-overload]
        probabilities = self.run(self.model, batches([0])).logits.softmax(-1)[0]
        answers = {answer["answer"]: answer["score"] for answer in pipe(batches.items[0], TEXTS[0])}
        apart = max(abs(answers[name] - probabilities[i].item()) for i, name in _ANSWERS.items())
        return f"differs: the pipeline by {apart:.1e}" if apart > ROUNDING else None

    def unmerge(self) -> str | None:
        folders = self.model.unmerge(self.work / "parts")
        for side, source in zip(("context", "query"), self.sources, strict=True):
            held, kept = (encoder_part(AutoModel.from_pretrained(place), side) for place in (source, folders[side]))
            kept_weights = kept.state_dict()
            for name, value in held.state_dict().items():
                if not torch.equal(kept_weights[name], value):
                    return f"differs: {side} {name}"
        return None


_COMPARED = ("context_embeds", "query_embeds", "logits")


def compare(one: Any, other: Any, rounding: float = ROUNDING) -> str | None:
    """Say which outputs are further apart than rounding, relative to their largest value, and by how much."""
    apart = {}
    for name in _COMPARED:
        difference = (one[name] - other[name]).abs().max() / one[name].abs().max().clamp(min=1.0)
        if not difference <= rounding:  # NaN, too
            apart[name.removesuffix("_embeds")] = difference.item()
    return f"differs: {', '.join(f'{name} by {size:.1e}' for name, size in apart.items())}" if apart else None


def check_pairs(context: str, queries: list[str]) -> dict[str, dict[str, str]]:
    """Check one encoder beside several text encoders; `remote` for all of them in one process without the package."""
    from .zoo_build import make_folder
    from .zoo_remote import load_remotely

    with tempfile.TemporaryDirectory() as place:
        root, found = Path(place), {}
        folders = {name: root / "encoders" / name for name in {context, *queries}}
        for name, folder in folders.items():
            make_folder(name, folder)
        works = {query: root / "pairs" / query for query in queries}
        for query, work in works.items():
            work.mkdir(parents=True)
            found[query] = check_pair(context, query, folders, work)
        saved = {query: work for query, work in works.items() if (work / "given.pt").exists()}
        for query, said in load_remotely(saved, root).items():
            found[query]["remote"] = said
        return found
