"""Two encoders and questions about images in, a merge that answers out: the whole way, each stage done once."""

import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from transformers import TrainingArguments, set_seed

from ..alignment.encoder_pair import EncoderPair, TokenChoice
from ..alignment.recommendations import FitName
from ..data import PairSplit
from ..data.answers import MEASURES, Answers
from ..data.encoded import PARTS, EncodedQuestions, encode_questions
from ..data.image_inputs import Chained
from ..data.questions import Questions, QuestionSplits
from ..data.raw_collator import RawCollator
from ..features.encoding import side_key
from ..features.keys import digest, inputs_key
from ..model.modality import SIDES
from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from .aligned_start import AlignedStart, align_start, leave_out_asked
from .asked import UNALIGNED_WIDTH, WIDTH, check_asked, planned_steps
from .balance import balanced_weights
from .controls import test_scores
from .growth import Growth, grow_answers
from .kept import Kept
from .lora import train_with_lora
from .measuring import answer_logits
from .merge_result import MergeResult
from .query_tokens import AUTO, choose_query_tokens, first_tokens
from .unlabelled import answer_unlabelled, leave_out_unlabelled


logger = logging.getLogger(__name__)
STAGES_FOLDER = "stages"


def train_merge(
    context: str,
    query: str,
    questions: QuestionSplits,
    output_dir: str | os.PathLike,
    *,
    captions: Mapping[str, PairSplit] | None = None,
    unlabelled: Questions | None = None,
    lora: int | None = None,
    balanced: bool = False,
    context_tokens: TokenChoice = "last_hidden_state",
    query_tokens: TokenChoice = AUTO,
    image_size: int | None = None,
    fit: FitName = "auto",
    shared_dim: int | None = None,
    epochs: float = 4.0,
    least_steps: int = 300,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    questions_per_context: int = 1,
    cache_dir: str | os.PathLike = "runs/features",
    encode_batch_size: int | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
    seed: int = 0,
    command: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> MergeResult:
    """Encode every input once, align on captions, grow a head on the questions, and save the merge.

    What is finished is kept in `output_dir/stages`: a run that was interrupted goes on from there when it is called
    again, and ends with the same parameters. Other data or settings start anew.

    Args:
        context, query: As in [`align_encoders`].
        questions: From [`load_questions`].
        output_dir: Folder for the model, its processor and `results.json`.
        captions: Image-caption pairs of other images, from [`load_pair_splits`], on which the adapters are aligned in
            closed form; pairs of images that validation or test ask about are left out. None: no alignment.
        unlabelled: Questions without answers, from [`load_rows`]: the aligned encoders answer them by the nearest
            statement ([`make_pseudo_labels`]), and the head learns from those answers too. Needs `captions`.
        lora: Rank of low-rank updates that both encoders learn, on raw inputs and with a fuser alone: slower by far,
            for data that the encoders do not know. None: encoders stay as they are.
        balanced: Let every answer count the same in the loss, however rare ([`balanced_weights`]); for one answer
            a row. Rare answers are found more often, and the frequent ones less.
        context_tokens, query_tokens: What is taken from the encoders, as in [`OTMergeConfig`]; for `query_tokens` also
            `"auto"`: the last layer or the middle one, whose words answer validation's questions better, see
            [`choose_query_tokens`]. With `lora`, or `unlabelled` questions, that is the last layer: the choice is not
            measured there.
        image_size, fit: As in [`align_encoders`].
        shared_dim: Width of the shared space; None: the fit's choice, or 128 without captions.
        epochs: Passes of the fuser over the training questions, at most: it stops where validation stops to gain.
        least_steps: Fewest optimiser steps planned, so that few questions are passed over more often.
        batch_size, learning_rate: Of the fuser's training, by AdamW with a cosine schedule.
        questions_per_context: How many questions about one image a batch holds at most, see [`train_answers`]: above 1
            its adapter, or with `lora` its encoder, runs once for them, which is faster.
        cache_dir: Folder where features are kept.
        encode_batch_size: Inputs per forward of an encoder; by default as many as are fast, see [`features.encode`].
        device: Where encoders and fuser run.
        progress: Whether bars are shown.
        seed: Of initial weights and of the order of rows.
        command: What started this, for the model card.
        reading: How the questions were read, for who reads them again; kept in `results.json`.

    Raises:
        ValueError: If an encoder, the questions or a choice does not fit.
        OSError: If an encoder is not found.
    """
    tokens = {"context": context_tokens, "query": first_tokens(query_tokens)}
    asked: dict[str, Any] = {"context": str(context), "query": str(query), "image_size": image_size}
    asked |= {"fit": fit, "shared_dim": shared_dim, "epochs": epochs, "least_steps": least_steps, "seed": seed}
    asked |= {"batch_size": batch_size, "learning_rate": learning_rate, "targets": questions.answers.targets}
    asked |= {"lora": lora, "balanced": balanced, "questions_per_context": questions_per_context}
    seconds: dict[str, float] = {}
    output, stages = Path(output_dir), Path(output_dir) / STAGES_FOLDER
    output.mkdir(parents=True, exist_ok=True)  # before the work, not after
    if (output / "results.json").is_file():
        logger.info("%s holds a merge already; the new one will take its place.", output)
    encoders = EncoderPair(context, query, {side: [choice] for side, choice in tokens.items()}, image_size)
    check_asked(encoders, questions, captions, unlabelled, lora, shared_dim, balanced, questions_per_context)
    if unlabelled is not None:
        unlabelled = leave_out_unlabelled(unlabelled, [questions.validation, questions.test])
    encoding: dict[str, Any] = {"cache_dir": cache_dir, "batch_size": encode_batch_size}
    query_errors: dict[str, float] = {}
    if query_tokens == AUTO and not lora and unlabelled is None:
        with _timed(seconds, "query_tokens"):
            tokens["query"], query_errors = choose_query_tokens(encoders, questions, device=device, **encoding)
    asked["tokens"] = tokens

    start: AlignedStart | None = None
    if captions is None:
        logger.info("No captions: the adapters are not aligned, they learn from the questions alone.")
    else:
        held_out = Chained([questions.validation.images, questions.test.images])
        captions = leave_out_asked(captions, held_out, seed)
        options: dict[str, Any] = {"image_size": image_size, "fit": fit, "shared_dim": shared_dim, "seed": seed}
        options |= {f"{side}_tokens": [choice] for side, choice in tokens.items()}
        probe = encoders.probe(tokens)
        keys = [side_key(probe, encoders.processor, side) for side in SIDES]
        key = digest({**{k: str(v) for k, v in options.items()}, "captions": _captions_key(captions), "of": keys})
        kept = Kept(stages / key[:16])
        with _timed(seconds, "align", kept):
            options |= encoding | {"device": device}
            start = align_start(context, query, captions, kept, **options)

    set_seed(seed)
    aligned_width = UNALIGNED_WIDTH if start is None else len(start.maps["query"].bias)
    width = shared_dim or -(-aligned_width // WIDTH) * WIDTH
    answers = questions.answers
    model = encoders.build_answering(
        tokens,
        shared_dim=width,
        adapter_type="mlp" if start is None else "linear",
        **answers.config,
        **({"linear_path": []} if lora else {}),
    )
    model.to(device)  # type: ignore[arg-type]  # transformers wraps it and loses the signature
    if start is not None:
        _put(start, model)
    with _timed(seconds, "features"):
        more = [] if unlabelled is None else [unlabelled]
        rows = encode_questions(model, encoders.processor, questions, more=more, **encoding, progress=progress)
    train, guessed = rows.train, 0
    if unlabelled is not None:
        with _timed(seconds, "pseudo_labels"):
            added = answer_unlabelled(model, encoders.processor, rows, unlabelled, answers.names, encoding)
        train, guessed = concatenate_datasets([rows.train, added]), len(added)

    if balanced:
        model.class_weights = balanced_weights(torch.tensor(train["labels"][:]), len(answers.names)).to(device)
    on_cpu = torch.device(device).type == "cpu"
    arguments = _arguments(output, len(train), epochs, least_steps, batch_size, learning_rate, seed, on_cpu)
    arguments.disable_tqdm = not progress
    answers_key = digest({"of": asked, "rows": _rows_key(rows, train, answers.names, start)})
    folder, size = stages / answers_key[:16], arguments.per_device_eval_batch_size
    growth: Growth | None = None
    with _timed(seconds, "answers", Kept(folder)):
        if lora:
            inputs = Chained([getattr(questions, name).images for name in PARTS] + [part.images for part in more])
            collator = RawCollator(inputs, rows.texts, encoders.processor, len(answers.names))
            parts = (train, rows.validation, rows.test)
            options = {"questions_per_context": questions_per_context, "keep": folder}
            logits = train_with_lora(model, *parts, collator, arguments, rank=lora, **options)
        else:
            options = {
                "questions_per_context": questions_per_context,
                "eval_questions": rows.validation,
                "processor": encoders.processor,
                "keep": folder,
            }
            growth = grow_answers(model, train, rows.collator, arguments, **options)
            logits = answer_logits(model, rows.test, rows.collator, size)
    model.class_weights = None
    scores = test_scores(logits, rows, questions)
    result = MergeResult(
        model=model.to("cpu").eval(),  # type: ignore[arg-type]
        processor=encoders.processor,
        growth=growth,
        measure=MEASURES[answers.targets],
        scores=scores,
        ceiling=answers.ceiling(questions.test.answers),
        counts={name: _counts(getattr(questions, name), answers) for name in PARTS},
        alignment=None if start is None else start.report,
        pseudo_labels=guessed,
        seconds=seconds,
        query_errors=query_errors,
        settings=asked | _told(questions, captions, command) | {"reading": dict(reading or {})},
    )
    result.save(output)
    for checkpoints in ("fuser", "refit", "lora"):
        shutil.rmtree(folder / checkpoints, ignore_errors=True)  # the stages' results stay, a few megabytes
    return result


def _told(questions: QuestionSplits, captions: Mapping[str, PairSplit] | None, command: str | None) -> dict[str, Any]:
    """What the model card says of a run beside its settings; nothing depends on it."""
    told = {"data": dict(questions.source), "command": command, "asks": questions.asks}
    return told | ({"captions": dict(captions["train"].source)} if captions else {})


@contextmanager
def _timed(seconds: dict[str, float], name: str, kept: Kept | None = None) -> Iterator[None]:
    """Note what a stage takes; one that is kept took what it took when it was made."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
    if kept is not None:
        earlier = kept.read(f"{name}-seconds")
        if earlier is None or earlier[1]["seconds"] < seconds[name]:
            kept.write(f"{name}-seconds", {}, {"seconds": seconds[name]})
        else:
            seconds[name] = earlier[1]["seconds"]


@torch.no_grad()
def _put(start: AlignedStart, model: OTMergeForQuestionAnswering) -> None:
    """Put maps and statistics into the adapters and standardisers; dimensions beyond the maps' start at zero."""
    for side, affine in start.maps.items():
        standardizer: Any = getattr(model.otmerge, f"{side}_standardizer")
        for buffer, values in zip((standardizer.mean, standardizer.std), start.statistics[side], strict=True):
            buffer.copy_(values)
        adapter: Any = getattr(model.otmerge, f"{side}_adapter")
        adapter.load_affine(*affine.widened(model.config.shared_dim))


def _arguments(
    output: Path, rows: int, epochs: float, least: int, batch_size: int, learning_rate: float, seed: int, on_cpu: bool
) -> TrainingArguments:
    steps = planned_steps(rows, epochs, batch_size, least)
    return TrainingArguments(
        output_dir=str(output / STAGES_FOLDER),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=256,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=min(20, steps // 10),
        weight_decay=0.01,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        seed=seed,
        dataloader_pin_memory=False,
        use_cpu=on_cpu,
    )


def _captions_key(captions: Mapping[str, PairSplit]) -> dict[str, str]:
    return {
        name: digest([inputs_key(split.images), inputs_key(split.texts), split.pairs.tolist()])
        for name, split in captions.items()
    }


def _rows_key(rows: EncodedQuestions, train: Dataset, names: list[str], start: AlignedStart | None) -> dict[str, Any]:
    """What the answers depend on beside the settings: features, rows, the answers' names, and the aligned start."""
    stores = [rows.context_store.shards_digest, rows.query_store.shards_digest]
    parts = [digest([list(part[name]) for name in part.column_names]) for part in (train, rows.validation)]
    return {"stores": stores, "rows": parts, "names": names, "start": None if start is None else start.report}


def _counts(part: Questions, answers: Answers) -> dict[str, int]:
    scored = len(answers.scored(part.answers))
    return {"rows": len(part), "scored": scored, "images": len(part.images), "texts": len(part.texts)}
