"""Stages of training: what learns, what is frozen, and a table that shows it."""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from ..model.probing import unread_parameters
from .attachment import base_model, find_host
from .callbacks import LossTermCallback


STAGES = ("align", "fuse", "both")


def set_stage(model: nn.Module, stage: str, terms: Sequence[LossTermCallback] = ()) -> str:
    """Set what is trainable and return it as a table.

    Args:
        model: An OTMerge model, possibly wrapped.
        stage: `"align"`: adapters and their decoders learn. `"fuse"`: the fuser and the answer head learn, adapters
            are frozen. `"both"`: all of these learn. Encoders learn in no stage, unless the configuration says
            `freeze_encoders=False`; the linear path is fitted, by `grow_answers`.
        terms: Loss terms of this stage. The temperature (`logit_scale`) and the decoders learn if one of them uses
            them, and are frozen otherwise, as is what the selected tokens do not depend on (an encoder's pooler): a
            parameter without a gradient stops distributed training under gradient checkpointing.

    Raises:
        ValueError: If the stage is unknown, or is `"fuse"` on a model without a fuser.

    Example:
        >>> from transformers import BertConfig, ViTConfig
        >>> from otmerge_hf import OTMergeConfig, OTMergeModel
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> config = OTMergeConfig.from_encoder_configs(ViTConfig(**small), BertConfig(**small), shared_dim=8)
        >>> print(set_stage(OTMergeModel(config), "align").splitlines()[-1].split()[:2])
        ['total', '816']
    """
    if stage not in STAGES:
        raise ValueError(f"`stage` is {stage!r}; expected one of {', '.join(STAGES)}.")
    host = find_host(model)
    if stage == "fuse" and not hasattr(host, "fuser"):
        raise ValueError(f"A {type(host).__name__} has no fuser; the stage `fuse` needs OTMergeForQuestionAnswering.")
    base = base_model(host)
    # an attached term that is a plain function does not say what it reads
    attached = (getattr(term, "needs_reconstruction", True) for term in host.loss_terms.values())
    decode = any(callback.needs_reconstruction for callback in terms) or any(attached)
    for name, child in base.named_children():
        if name.endswith("_encoder"):
            _set_learning(child, not host.config.freeze_encoders, leave=("lora_", "modules_to_save."))
            if isinstance(child, PreTrainedModel) and not host.config.freeze_encoders:
                for parameter in unread_parameters(child, getattr(host.config, name.replace("_encoder", "_tokens"))):
                    parameter.requires_grad_(False)
        elif name == "logit_scale":
            _set_learning(child, any(callback.term.uses_temperature for callback in terms))
        else:
            _set_learning(child, name.endswith("_adapter") and stage != "fuse", freeze=() if decode else ("decoder.",))
    if host is not base:
        for name, child in host.named_children():
            if name != "otmerge":
                _set_learning(child, stage != "align" and name != "linear_path")
    return trainable_table(model)


def _set_learning(part: nn.Module, learns: bool, leave: tuple[str, ...] = (), freeze: tuple[str, ...] = ()) -> None:
    """Let a part learn, or freeze it: `leave` parameters of such names, and let those of others never learn."""
    never = ("original_module.", *freeze)  # what PEFT put aside runs in no forward
    for name, parameter in part.named_parameters():
        if not any(mark in name for mark in leave):  # what PEFT put into an encoder is PEFT's to decide
            parameter.requires_grad_(learns and not any(mark in name for mark in never))


def trainable_table(model: nn.Module) -> str:
    """Table of a model's parts: trainable parameters, all parameters, and the state that this makes."""
    host = find_host(model)
    base = base_model(host)
    parts = dict(base.named_children())
    parts.update({name: child for name, child in host.named_children() if name != "otmerge"})
    rows = [("part", "trainable", "all", "")]
    for name, part in parts.items():
        every = sum(p.numel() for p in part.parameters())
        learning = sum(p.numel() for p in part.parameters() if p.requires_grad)
        if every:
            state = "learns" if learning == every else "frozen" if not learning else "partly learns"
            rows.append((name, f"{learning:,}", f"{every:,}", state))
    learning, every = (sum(int(row[i].replace(",", "")) for row in rows[1:]) for i in (1, 2))
    rows.append(("total", f"{learning:,}", f"{every:,}", f"{learning / max(every, 1):.2%} of all"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [f"{r[0]:<{widths[0]}}  {r[1]:>{widths[1]}}  {r[2]:>{widths[2]}}  {r[3]}".rstrip() for r in rows]
    return "\n".join(lines)
