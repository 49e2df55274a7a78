"""Trainer's checkpoints without the frozen encoders: megabytes for what took hundreds, resumed to the bit."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from ..model.sources import describe_encoders
from .attachment import find_host


class AdapterCheckpoints(TrainerCallback, ExportableState):
    """Leaves frozen encoders out of the checkpoints of the stock Trainer that holds the callback.

    Resuming, and `load_best_model_at_end`, take the encoders from memory, where they stayed; a checkpoint that was
    made with other encoders is refused. What is saved under another name than Trainer's `checkpoint-<step>`
    (`trainer.save_model("mine")`, `model.save_pretrained("mine")`) is whole as ever. Encoders that learn are saved.

    `from_pretrained` loads such a checkpoint as one of `save_pretrained(folder, save_encoders=False)`.

    Raises:
        ValueError: In `train(resume_from_checkpoint=...)`, if the checkpoint was made with another encoder.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> from transformers import BertConfig, Trainer, ViTConfig
        >>> from otmerge_hf import OTMergeConfig, OTMergeForQuestionAnswering
        >>> from safetensors.torch import load_file
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> config = OTMergeConfig.from_encoder_configs(ViTConfig(**small), BertConfig(**small), shared_dim=8)
        >>> rows = [dict(context_features=torch.randn(4, 16), query_features=torch.randn(3, 16), labels=0)] * 4
        >>> folder = tempfile.mkdtemp()
        >>> args = TrainingArguments(folder, max_steps=1, use_cpu=True, disable_tqdm=True, logging_strategy="no")
        >>> model = OTMergeForQuestionAnswering(config)
        >>> trainer = Trainer(model, args, train_dataset=rows, callbacks=[AdapterCheckpoints()])
        >>> _ = trainer.train()  # doctest: +ELLIPSIS
        {'train_runtime': ...
        >>> any("_encoder." in name for name in load_file(Path(folder) / "checkpoint-1" / "model.safetensors"))
        False
    """

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: which encoders it needs."""
        return {"args": {}, "attributes": {"digests": self.digests}}

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Before a checkpoint is loaded."""
        find_host(model).adapter_checkpoints = args.output_dir

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Refuse a checkpoint of other encoders, of which a resumed `state` tells."""
        host = find_host(model)
        host.adapter_checkpoints, host.checkpoints_go_up = args.output_dir, args.push_to_hub
        saved: Any = state.stateful_callbacks
        before = _latest_digests(saved) if state.global_step else {}
        self.digests = _digests(host)
        for side, digest in self.digests.items():
            if before.get(side, digest) != digest:
                raise ValueError(
                    f"The checkpoint was made with another {side} encoder, and holds none: digest of its weights "
                    f"{before[side]}, this model's {digest}."
                )
        saved[type(self).__name__] = self.state()  # a checkpoint that was made without the callback has none

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Say no more what checkpoints hold."""
        find_host(model).adapter_checkpoints = None


def _digests(host: Any) -> dict[str, str]:
    """Digests of frozen encoders: those of encoders that learn are in the checkpoint."""
    encoders = host.named_encoders()
    if any(parameter.requires_grad for encoder in encoders.values() for parameter in encoder.parameters()):
        return {}
    return {side: record["digest"] for side, record in describe_encoders(host).items()}


def _latest_digests(saved: dict[str, Any]) -> dict[str, str]:
    states = saved.get(AdapterCheckpoints.__name__, {})
    latest = states[-1] if isinstance(states, list) else states
    return latest.get("attributes", {}).get("digests", {})
