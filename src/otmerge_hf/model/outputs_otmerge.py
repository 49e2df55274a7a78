"""What the models return, and the tokens of one side on their way through the walk."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedConfig
from transformers.utils import ModelOutput, logging


logger = logging.get_logger(__name__)


class EmbeddedSide(NamedTuple):
    """One side in the shared space.

    Shapes: B batch, S tokens, D shared width, D_side the encoder's.

    Attributes:
        tokens: (B, S, D_side), what the adapter received: standardised features.
        shared: (B, S, D), the shared tokens.
        embeds: (B, D), the shared embedding: the masked mean of the shared tokens.
        mask: (B, S), 1 for real tokens; None if all are.
    """

    tokens: torch.Tensor
    shared: torch.Tensor
    embeds: torch.Tensor
    mask: torch.Tensor | None

    def take(self, rows: torch.Tensor) -> "EmbeddedSide":
        """The rows (B,) of this side's batch, each as often as it is named."""
        return EmbeddedSide(*(None if field is None else field.index_select(0, rows) for field in self))


@dataclass
class OTMergeOutput(ModelOutput):
    """Both sides in the shared space.

    Shapes: B batch (of images C and texts Q where they differ), S_c, S_q tokens, D shared width, D_c, D_q encoders'.

    Args:
        loss: Sum of the attached loss terms, scalar; None without terms.
        logits_per_image: (B_c, B_q) scaled cosine of the embeddings; None from the answering model.
        logits_per_text: (B_q, B_c), its transpose.
        context_embeds, query_embeds: (B, D) shared embeddings, the masked mean of the shared tokens.
        context_shared, query_shared: (B, S, D) shared tokens.
        context_tokens, query_tokens: (B, S, D_c or D_q) what the adapters received: standardised features.
        context_mask, query_mask: (B, S), 1 for real tokens; None if all are.
        context_reconstruction, query_reconstruction: (B, S, D_c or D_q) decoders' outputs; None without decoders, and
            from the answering model if no attached term needs them.
        logit_scale: Factor of the cosine in the logits, scalar.
        pair_mask, group_ids: (B,) as they were passed in, for the loss terms.
        hidden_states: With `output_hidden_states`, the shared query tokens (B, S_q, D) that enter the fuser and those
            after each of its layers; of [`OTMergeModel`], which has no fuser, the first alone. The encoders' own are
            not kept: call `model.context_encoder` for them.
        attentions: With `output_attentions`, the fuser's query-to-context weights (B, heads, S_q, S_c) of each layer;
            empty where nothing attends, or with attention that computes no weights (sdpa).
    """

    loss: torch.Tensor | None = None
    logits_per_image: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    context_embeds: torch.Tensor | None = None
    query_embeds: torch.Tensor | None = None
    context_shared: torch.Tensor | None = None
    query_shared: torch.Tensor | None = None
    context_tokens: torch.Tensor | None = None
    query_tokens: torch.Tensor | None = None
    context_mask: torch.Tensor | None = None
    query_mask: torch.Tensor | None = None
    context_reconstruction: torch.Tensor | None = None
    query_reconstruction: torch.Tensor | None = None
    logit_scale: torch.Tensor | None = None
    pair_mask: torch.Tensor | None = None
    group_ids: torch.Tensor | None = None
    hidden_states: Any = None  # tuples of tensors, unlike every other field
    attentions: Any = None


@dataclass
class _AnswerFirst(ModelOutput):
    """Puts the logits right after the loss, where users of tuples (`return_dict=False`) look for them."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


@dataclass
class OTMergeQuestionAnsweringOutput(OTMergeOutput, _AnswerFirst):
    """As [`OTMergeOutput`], with `logits` (B, num_labels).

    `loss` is the answer loss plus the attached terms. The cosine logits are not computed: nobody reads them here.
    """


def fields_of_sides(context: EmbeddedSide, query: EmbeddedSide, inputs: dict[str, Any]) -> dict[str, Any]:
    """Both sides, and the marks of pairs as they were passed in, by the names of [`OTMergeOutput`]."""
    sides = {"context": context, "query": query}
    fields = {f"{side}_{name}": value for side, found in sides.items() for name, value in found._asdict().items()}
    return fields | {name: inputs.get(name) for name in ("pair_mask", "group_ids")}


def states_asked_for(
    config: PreTrainedConfig,
    hidden_states: tuple[torch.Tensor, ...],
    attentions: tuple[torch.Tensor | None, ...],
    output_hidden_states: bool | list[int] | None,
    output_attentions: bool | None,
) -> dict[str, tuple | None]:
    """Keep what the arguments of `forward` ask for, or the configuration where they are None.

    As everywhere in transformers, a list of places keeps those hidden states alone, and None in place of the others.
    Attention that computes no weights (sdpa) gives none, with a warning.
    """
    if output_hidden_states is None:
        output_hidden_states = config.output_hidden_states
    if output_attentions is None:
        output_attentions = config.output_attentions
    if output_attentions and any(weights is None for weights in attentions):
        attentions = ()
        logger.warning_once(
            f"`{config._attn_implementation}` attention does not support `output_attentions=True`: `attentions` is "
            'empty. Call `model.set_attn_implementation("eager")` first.'
        )
    if isinstance(output_hidden_states, (list, tuple)):
        count = len(hidden_states)
        places = {range(count)[place] for place in output_hidden_states}
        hidden_states = tuple(states if place in places else None for place, states in enumerate(hidden_states))
    return {
        "hidden_states": hidden_states if output_hidden_states else None,
        "attentions": attentions if output_attentions else None,
    }
