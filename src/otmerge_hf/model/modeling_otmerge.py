"""The merged model: two frozen encoders, an adapter each into the shared space, a fuser and an answer head."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import can_return_tuple

from .adapters import Adapter, build_adapter
from .attention import AttentionByPart
from .checkpoint import CheckpointMixin
from .configuration_otmerge import OTMergeConfig
from .encoders import build_encoder, load_encoders, run_encoder
from .fusers import ContextPositions, TransportFuser, build_fuser, masked_mean
from .linear_path import AnswerMap, LinearPath
from .modality import SIDES, takes_inputs
from .outputs_otmerge import (
    EmbeddedSide,
    OTMergeOutput,
    OTMergeQuestionAnsweringOutput,
    fields_of_sides,
    states_asked_for,
)
from .probing import check_encoder, gives_grid, measure_width
from .scaling import LogitScale, Standardizer
from .sources import align_in_memory
from .validation import check_features, check_labels, check_pairs, check_tensors, images_a_row, read_side


Given = PreTrainedModel | None  # an encoder that was loaded; None for a new one, of the configuration


class OTMergePreTrainedModel(AttentionByPart, CheckpointMixin, PreTrainedModel):
    """Loading, saving, initialisation and freezing, shared by both models."""

    config: OTMergeConfig
    base_model_prefix = "otmerge"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    # forward's loss is a mean over its own batch; without this, Trainer would multiply it by the accumulation steps
    accepts_loss_kwargs = False

    def __init__(self, config: OTMergeConfig):
        super().__init__(config)
        # transformers would read "...ForQuestionAnswering" as extractive answering, with start and end positions
        self.loss_type = None
        self.loss_terms: dict[str, Callable[[OTMergeOutput], torch.Tensor]] = {}
        self.head_is_untrained = False  # True where an aligned merge was loaded without one: the pipeline refuses

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, (AnswerMap, ContextPositions, LinearPath, LogitScale, Standardizer, TransportFuser)):
            module.init_weights()
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=max(std, module.in_features**-0.5))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, Adapter):
            module.init_weights(std)

    def train(self, mode: bool = True):
        """Set training mode, but keep frozen encoders in `eval()`: BatchNorm statistics and dropout stay still."""
        super().train(mode)
        self.head_is_untrained &= not mode
        if self.config.freeze_encoders:
            for encoder in self.named_encoders().values():
                encoder.eval()
        return self

    def freeze_encoders(self) -> None:
        """Stop the gradients of frozen encoders (`config.freeze_encoders`), of the temperature and of the linear path.

        What is put into a frozen encoder later (LoRA) learns. The temperature learns where a loss term uses it
        (`training.set_stage`). The path is fitted (`training.grow_answers`): beside it a fuser learns more slowly.
        """
        for encoder in self.named_encoders().values():
            encoder.requires_grad_(not self.config.freeze_encoders)
        getattr(self, self.base_model_prefix, self).logit_scale.requires_grad_(False)
        if getattr(self, "linear_path", None) is not None:
            self.linear_path.requires_grad_(False)

    def _sum_terms(self, task_loss: torch.Tensor | None, outputs: OTMergeOutput) -> torch.Tensor | None:
        for term in self.loss_terms.values():
            value = term(outputs)
            task_loss = value if task_loss is None else task_loss + value
        return task_loss

    def get_input_embeddings(self) -> nn.Module:
        """Return the query encoder's word embeddings."""
        return getattr(self, self.base_model_prefix, self).query_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the query encoder's word embeddings."""
        getattr(self, self.base_model_prefix, self).query_encoder.set_input_embeddings(value)

    @classmethod
    def from_encoders_pretrained(cls, context: str | PreTrainedModel, query: str | PreTrainedModel, **kwargs):
        """Merge two pretrained encoders; adapters, fuser and head start untrained.

        Args:
            context: Name, folder or instance of the encoder that is looked at.
            query: Name, folder or instance of the text encoder that asks.
            **kwargs: Fields of [`OTMergeConfig`]; `context_kwargs` and `query_kwargs` (dicts) go to the encoders'
                own `from_pretrained` (`revision`, `dtype`, `subfolder`, ...).

        Raises:
            OSError: If an encoder is not found.
            ValueError: If a choice does not fit the encoders.
        """
        if "dtype" in kwargs:
            raise ValueError("`dtype` is the encoders' own: pass it in `context_kwargs`, `query_kwargs`, or cast")
        options = {side: kwargs.pop(f"{side}_kwargs", None) for side in SIDES}
        loaded = load_encoders({"context": context, "query": query}, options)
        for side, part in loaded.items():
            tokens, width = kwargs.get(f"{side}_tokens", "last_hidden_state"), kwargs.get(f"{side}_feature_dim")
            kwargs[f"{side}_feature_dim"] = measure_width(side, part.encoder, tokens, width)
        config = OTMergeConfig.from_encoder_configs(*(loaded[side].config for side in SIDES), **kwargs)
        config.encoder_sources = {side: part.source for side, part in loaded.items()}
        model = cls(config, *(loaded[side].encoder for side in SIDES))
        align_in_memory(model)
        return model


class OTMergeModel(OTMergePreTrainedModel):
    """Two encoders in one shared space: tokens, embeddings and their similarities.

    Example:
        >>> from transformers import BertConfig, ViTConfig
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> encoders = ViTConfig(image_size=32, patch_size=16, **small), BertConfig(vocab_size=50, **small)
        >>> config = OTMergeConfig.from_encoder_configs(*encoders, shared_dim=8)
        >>> model = OTMergeModel(config).eval()
        >>> model(pixel_values=torch.zeros(2, 3, 32, 32), input_ids=torch.ones(3, 4).long()).logits_per_image.shape
        torch.Size([2, 3])
    """

    def __init__(self, config: OTMergeConfig, context_encoder: Given = None, query_encoder: Given = None):
        super().__init__(config)
        for encoder in (context_encoder, query_encoder):
            for module in encoder.modules() if encoder is not None else ():
                # post_init would otherwise draw anew what was put in after loading: grown embeddings, a new pooler
                module._is_hf_initialized = True
        self.context_encoder = context_encoder or build_encoder(config.context_config, "context")
        self.query_encoder = query_encoder or build_encoder(config.query_config, "query")
        for side in SIDES:
            # One object, so that a change of one (attention, vocabulary) is a change of the other.
            encoder = getattr(self, f"{side}_encoder")
            check_encoder(side, encoder, getattr(config, f"{side}_tokens"))
            if type(encoder.config) is type(getattr(config, f"{side}_config")):
                setattr(config, f"{side}_config", encoder.config)
            dim = config.feature_dim(side)
            setattr(self, f"{side}_standardizer", Standardizer(dim) if config.standardize else nn.Identity())
            setattr(self, f"{side}_adapter", build_adapter(config, side))
        self.logit_scale = LogitScale(config.logit_scale_init_value)
        self.post_init()
        self.freeze_encoders()

    def encode(self, side: str, inputs: dict, mask: torch.Tensor | None, features: torch.Tensor | None):
        """Tokens of one side: from its encoder, or features that were computed before.

        Args:
            side: `"context"` or `"query"`.
            inputs: The encoder's inputs; ignored when `features` are given.
            mask: Their mask, or the features' (B, S).
            features: (B, S, D_side) encoder tokens, not standardised.

        Returns:
            Standardised tokens (B, S, D_side) and their mask (B, S) or None.
        """
        if features is None:
            encoder, tokens = getattr(self, f"{side}_encoder"), getattr(self.config, f"{side}_tokens")
            learns = any(parameter.requires_grad for parameter in encoder.parameters())
            with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
                features, mask = run_encoder(encoder, inputs, tokens, mask)
        check_features(features, mask, side, self.config.feature_dim(side))
        adapter_dtype = self.logit_scale.log_scale.dtype
        return getattr(self, f"{side}_standardizer")(features.to(adapter_dtype)), mask

    def embed_tokens(
        self, side: str, tokens: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Shared tokens (B, S, D) and shared embedding (B, D) of standardised tokens (B, S, D_side)."""
        shared = getattr(self, f"{side}_adapter")(tokens)
        return shared, masked_mean(shared, mask)

    def embed_side(
        self,
        side: str,
        inputs: dict[str, torch.Tensor | None],
        mask: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        rows: torch.Tensor | None = None,
    ) -> EmbeddedSide:
        """Bring one side into the shared space; arguments as of [`OTMergeModel.encode`].

        `rows` (B,) are what is handed on of the inputs' rows, each as often as it is named; None: all, once.
        """
        tokens, mask = self.encode(side, inputs, mask, features)
        embedded = EmbeddedSide(tokens, *self.embed_tokens(side, tokens, mask), mask)
        return embedded if rows is None else embedded.take(rows)

    def read_inputs(self, inputs: dict[str, torch.Tensor | None]) -> list[tuple]:
        """Find both sides among the arguments of `forward`; each as [`OTMergeModel.embed_side`] takes it."""
        check_tensors(inputs)
        return [read_side(side, getattr(self, f"{side}_encoder"), inputs) for side in SIDES]

    def reconstruct(self, context: EmbeddedSide, query: EmbeddedSide) -> dict[str, torch.Tensor | None]:
        """Encoder tokens (B, S, D_side) that the decoders make of the shared ones; None without decoders."""
        made: dict[str, torch.Tensor | None] = {}
        for side, shared in (("context", context.shared), ("query", query.shared)):
            decoder = getattr(self, f"{side}_adapter").decoder
            made[f"{side}_reconstruction"] = None if decoder is None else decoder(shared)
        return made

    @takes_inputs
    @can_return_tuple
    def forward(
        self,
        return_loss: bool = True,
        output_hidden_states: bool | list[int] | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **inputs: torch.Tensor | None,
    ) -> OTMergeOutput:
        """Bring both sides into the shared space.

        Args:
            pixel_values: (B, 3, H, W), for an image context; (B, n, 3, H, W) for n images a row, one after the other.
            image_mask: (B, n), 1 for images that a row has: of `pixel_values`, or of `context_features` of n images.
            input_ids, attention_mask, token_type_ids: (B, S_q), the query.
            input_features, input_values: (B, mel, frames) or (B, samples), for an audio context.
            context_input_ids: (B, S_c), for a text context.
            context_attention_mask: Mask of an audio or text context.
            context_features, query_features: (B, S, D_side) encoder tokens in place of the inputs.
            context_features_mask, query_features_mask: (B, S), 1 for real tokens.
            pair_mask: (B,), 1 where row i's context and query belong together; all do if None. Only terms of pairs
                look at it.
            context_index: (B,) integers: of the rows of the context inputs, the one that each query is about. Queries
                that share a context then run its encoder and adapter once. None: the rows belong together in order.
            group_ids: (B,) integers; pairs with one number (two captions of an image) are no negatives of each other.
            return_loss: Whether to evaluate the attached loss terms.
            output_hidden_states, output_attentions: See [`OTMergeOutput`]; the configuration's when None.
            return_dict: Return a tuple when False; the configuration's when None.

        Raises:
            TypeError: If an argument has another name.
            ValueError: If a side is missing, is not what its encoder takes, or holds NaN.
        """
        context_inputs, query_inputs = self.read_inputs(inputs)
        context = self.embed_side("context", *context_inputs)  # tokens (B_c, S_c, D_c), shared (B_c, S_c, D)
        query = self.embed_side("query", *query_inputs)  # tokens (B_q, S_q, D_q), shared (B_q, S_q, D)

        directions = [nn.functional.normalize(side.embeds, dim=-1) for side in (query, context)]
        logits_per_text = self.logit_scale(directions[0] @ directions[1].T)  # (B_q, B_c)
        outputs = OTMergeOutput(
            logits_per_image=logits_per_text.T,
            logits_per_text=logits_per_text,
            logit_scale=self.logit_scale(torch.ones_like(context.embeds[0, 0])),
            **fields_of_sides(context, query, inputs),
            **self.reconstruct(context, query),
            **states_asked_for(self.config, (query.shared,), (), output_hidden_states, output_attentions),
        )
        return OTMergeOutput(loss=self._sum_terms(None, outputs) if return_loss else None, **outputs)

    def get_context_embeds(self, **inputs: torch.Tensor | None) -> torch.Tensor:
        """Shared embeddings (B, D) of the context side alone; inputs as in `forward`."""
        return self.embed_side("context", *read_side("context", self.context_encoder, inputs)).embeds

    def get_query_embeds(self, **inputs: torch.Tensor | None) -> torch.Tensor:
        """Shared embeddings (B, D) of the query side alone; inputs as in `forward`."""
        return self.embed_side("query", *read_side("query", self.query_encoder, inputs)).embeds

    def fit_standardization(self, context: tuple | None = None, query: tuple | None = None) -> None:
        """Store the features' statistics: `(mean (D_side,), std (D_side,))` of the training set, a side each.

        Dimensions with (nearly) no spread keep unit scale, so that noise in them is not blown up.
        """
        for side, statistics in (("context", context), ("query", query)):
            if statistics is None:
                continue
            standardizer = getattr(self, f"{side}_standardizer")
            if not isinstance(standardizer, Standardizer):
                raise ValueError("`standardize=False` in the configuration: there is nothing to fit.")
            standardizer.fit(*statistics, side)

    @torch.no_grad()
    def load_alignment(self, fit: Any, standardized: bool = False) -> None:
        """Put a closed-form fit into the adapters: the merge then retrieves at once, without a gradient step.

        An affine map of tokens commutes with their mean, so a fit on mean features serves every token.

        Args:
            fit: Has `context_map_` and `query_map_`, each a pair of weight (D, D_side) and bias (D,).
            standardized: Whether the fit saw standardised features; if not, the standardisation is folded in (which
                no orthogonal adapter can do).

        Raises:
            ValueError: If the widths differ or the adapter cannot be that map.
        """
        for side in SIDES:
            weight, bias = getattr(fit, f"{side}_map_")
            standardizer = getattr(self, f"{side}_standardizer")
            if not standardized and isinstance(standardizer, Standardizer):
                weight, bias = standardizer.fold_in(weight, bias)
            getattr(self, f"{side}_adapter").load_affine(weight, bias)


class OTMergeForQuestionAnswering(OTMergePreTrainedModel):
    """Answers a question about a context by choosing one of `config.num_labels` answers.

    Example:
        >>> from transformers import BertConfig, ViTConfig
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> encoders = ViTConfig(image_size=32, patch_size=16, **small), BertConfig(vocab_size=50, **small)
        >>> model = OTMergeForQuestionAnswering(OTMergeConfig.from_encoder_configs(*encoders, shared_dim=8))
        >>> model(pixel_values=torch.zeros(2, 3, 32, 32), input_ids=torch.ones(2, 4).long()).logits.shape
        torch.Size([2, 2])
    """

    class_weights: torch.Tensor | None  # (num_labels,): what each answer counts in the loss of a training; not saved

    def __init__(self, config: OTMergeConfig, context_encoder: Given = None, query_encoder: Given = None):
        config.check_fuser_width()
        super().__init__(config)
        self.otmerge = OTMergeModel(config, context_encoder, query_encoder)
        self.positions = ContextPositions(config, gives_grid(self.otmerge.context_encoder))
        self.fuser = build_fuser(config)
        self.classifier = nn.Sequential(
            nn.Linear(config.shared_dim, config.shared_dim),
            nn.GELU(),
            nn.Dropout(config.fuser_dropout),
            nn.Linear(config.shared_dim, config.num_labels),
        )
        self.linear_path = LinearPath(config) if config.linear_path else None
        self.register_buffer("class_weights", None, persistent=False)
        self.post_init()
        self.freeze_encoders()

    @takes_inputs
    @can_return_tuple
    def forward(
        self,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | list[int] | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **inputs: torch.Tensor | None,
    ) -> OTMergeQuestionAnsweringOutput:
        """Answer; the inputs are [`OTMergeModel.forward`]'s, a question per context or as `context_index` says.

        Args:
            labels: (B,) answer indices for cross-entropy (-100 is ignored), or (B, num_labels) soft targets in [0, 1]
                for binary cross-entropy, as VQA v2 is trained.
            output_hidden_states: Return the query tokens that enter the fuser and those after each of its layers.
            output_attentions: Return the fuser's query-to-context weights; with other than eager attention, none.
            return_dict: Return a tuple when False; the configuration's when None.

        Raises:
            TypeError: If an argument has another name.
            ValueError: If a side is missing or broken, the sides' batches differ, or a label is out of range.
        """
        context_inputs, query_inputs = self.otmerge.read_inputs(inputs)
        *context_inputs, rows = context_inputs
        distinct = self.otmerge.embed_side("context", *context_inputs)  # of U contexts; U = B where none is shared
        context = distinct if rows is None else distinct.take(rows)  # tokens (B, S_c, D_c), shared (B, S_c, D)
        query = self.otmerge.embed_side("query", *query_inputs)  # tokens (B, S_q, D_q), shared (B, S_q, D)
        check_pairs(context.embeds, query.embeds)
        positioned = self.positions(distinct.shared, inputs.get("pixel_values"), images_a_row(inputs))  # (U, S_c, D)
        fused = self.fuser(query.shared, positioned, query.mask, context.mask, rows)  # vector (B, D)
        logits = self.classifier(fused.vector)  # (B, num_labels)
        if self.linear_path is not None:
            logits = logits + self.linear_path(query, context, distinct, rows)  # (B, num_labels)

        # an attached term says whether it reads the decoders; a plain function does not say, and gets them
        decode = any(getattr(term, "needs_reconstruction", True) for term in self.loss_terms.values())
        outputs = OTMergeQuestionAnsweringOutput(
            logits=logits,
            logit_scale=self.otmerge.logit_scale(torch.ones_like(context.embeds[0, 0])),
            **fields_of_sides(context, query, inputs),
            **(self.otmerge.reconstruct(context, query) if decode else {}),
            **states_asked_for(self.config, *fused[1:], output_hidden_states, output_attentions),
        )
        if labels is None:
            return outputs
        loss = self._sum_terms(self.answer_loss(logits, labels), outputs)  # scalar
        return OTMergeQuestionAnsweringOutput(loss=loss, **outputs)

    def answer_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of hard labels (B,); binary cross-entropy of soft ones (B, num_labels), summed over labels.

        The labels' shape decides. What the pipeline shows, softmax or sigmoids, is the configuration's
        `problem_type`; soft labels without one get a warning. A batch with no label but -100 gives 0. Where
        `class_weights` (num_labels,) are set, rows of hard labels count by them (`training.balanced_weights`).

        Raises:
            ValueError: If a label is out of range, or the configuration's `problem_type` is the other one.
        """
        check_labels(labels, logits, self.config.problem_type)
        if labels.dim() == 2:
            losses = nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
            return losses.sum(dim=-1).mean()
        weights = None if self.class_weights is None else self.class_weights.to(logits)
        summed = nn.functional.cross_entropy(logits, labels.long(), weight=weights, reduction="sum")
        return summed / (labels != -100).sum().clamp(min=1)


__all__ = ["OTMergeForQuestionAnswering", "OTMergeModel", "OTMergePreTrainedModel"]
