"""Low-rank updates of both encoders, trained on raw inputs with the rest, and put into the weights at the end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn, optim
from transformers import TrainingArguments

from ..data.raw_collator import RawCollator
from ..model.modality import SIDES
from ..model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergeModel
from .best import KeepBest
from .fuser_training import plan_evaluations, train_fuser
from .kept import Kept
from .measuring import answer_logits


ENCODER_LEARNING_RATE = 3e-4


def add_lora(model: OTMergeForQuestionAnswering, rank: int = 8) -> list[nn.Parameter]:
    """Put LoRA into both encoders, and return what was put in; the encoders' own weights stay frozen.

    Raises:
        ValueError: If an encoder has no layer that LoRA is for.

    Source: Hu et al. 2022; PEFT's `inject_adapter_in_model`.
    """
    from peft import LoraConfig, inject_adapter_in_model  # here: its 25 MiB are no other way's

    added = []
    for side in SIDES:
        encoder: Any = getattr(model.otmerge, f"{side}_encoder")
        targets = lora_targets(encoder)
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets), encoder)
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_("lora_" in name)
            if "lora_" in name:
                added.append(parameter)
    return added


def check_lora(model: OTMergeModel) -> None:
    """Refuse encoders that LoRA is not for, with a ValueError, or an ImportError without PEFT; before any work."""
    import peft  # noqa: F401

    for side in SIDES:
        lora_targets(getattr(model, f"{side}_encoder"))


def merge_lora(model: OTMergeForQuestionAnswering) -> None:
    """Put the updates into the encoders' weights: the merge is an ordinary one again."""
    from peft.tuners.lora import LoraLayer

    for side in SIDES:
        encoder: Any = getattr(model.otmerge, f"{side}_encoder")
        for name, module in list(encoder.named_modules()):
            if isinstance(module, LoraLayer):
                module.merge()  # type: ignore[operator]
                encoder.set_submodule(name, module.get_base_layer())
        encoder.requires_grad_(False)


def lora_targets(encoder: nn.Module) -> list[str]:
    """Names of the layers that get an update: queries and values of attention, else pointwise convolutions.

    Raises:
        ValueError: If the encoder has neither.

    Example:
        >>> lora_targets(nn.ModuleDict({"query": nn.Linear(2, 2), "key": nn.Linear(2, 2)}))
        ['query']
    """
    modules = dict(encoder.named_modules())
    attention = ("query", "value", "q_proj", "v_proj", "q_lin", "v_lin")
    found = [n for n, m in modules.items() if isinstance(m, nn.Linear) and n.rsplit(".", 1)[-1] in attention]
    found = found or [n for n, m in modules.items() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    # a squeeze-and-excite gate is a scalar on each channel, no map of features
    found = [name for name in found if "squeeze" not in name]
    if not found:
        raise ValueError(f"A {type(encoder).__name__} has neither attention projections nor pointwise convolutions.")
    return found


def train_with_lora(
    model: OTMergeForQuestionAnswering,
    rows: Sequence[Any],
    validation: Sequence[Any],
    test: Sequence[Any],
    collator: RawCollator,
    args: TrainingArguments,
    *,
    rank: int = 8,
    keep: Path | None = None,
    questions_per_context: int = 1,
) -> Tensor:
    """Train encoders' LoRA, adapters, fuser and head, keep the best on validation, and answer the test rows: (M, L).

    After an interruption the same call goes on from the last checkpoint in `keep`.

    Args:
        model: A merge without linear path, which is fitted to features that stay.
        rows, validation, test: Rows that name inputs by number.
        collator: Opens and processes them.
        args: Of the stock Trainer; the updates learn at `ENCODER_LEARNING_RATE`.
        rank: Of the updates.
        keep: Folder for checkpoints and the best state; None: nothing is kept.
        questions_per_context: As of [`train_answers`].

    Raises:
        ValueError: If the model has a linear path, an encoder no layer that LoRA is for, or `questions_per_context`
            cannot be.
    """
    if model.linear_path is not None:
        raise ValueError("`model` has a linear path; build it with `linear_path=[]` to train its encoders.")
    added = add_lora(model, rank)
    inside = {id(parameter) for parameter in added}
    rest = [value for value in model.parameters() if value.requires_grad and id(value) not in inside]
    groups = [{"params": added, "lr": ENCODER_LEARNING_RATE}, {"params": rest, "lr": args.learning_rate}]
    best, kept = KeepBest(model), Kept(keep)
    if not best.load(kept, "lora"):
        optimizer = optim.AdamW(groups, lr=args.learning_rate, weight_decay=args.weight_decay)
        folder = keep and keep / "lora"
        planned = plan_evaluations(args, len(rows))
        options: dict[str, Any] = {"eval_rows": validation, "folder": folder, "optimizer": optimizer}
        options["questions_per_context"] = questions_per_context
        train_fuser(model, rows, collator, planned, best, **options)
        best.keep(kept, "lora")
    best.restore()
    logits = answer_logits(model, test, collator, args.per_device_eval_batch_size)
    merge_lora(model)
    return logits
