"""The merged model: two frozen encoders, an adapter each into the shared space, a fuser and an answer head."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from .adapters import Adapter, build_adapter
from .configuration_otmerge import OTMergeConfig
from .encoders import build_encoder, encoder_part, probe_feature_dim, rebuildable_config, run_encoder
from .fusers import ContextPositions, build_fuser, masked_mean
from .validation import check_features, check_finite, check_labels, pick_context_input, require_query


@dataclass
class OTMergeOutput(ModelOutput):
    """Both sides in the shared space.

    Shapes: B batch (of images C and texts Q where they differ), S_c, S_q tokens, D shared width, D_c, D_q encoders'.

    Args:
        loss: Sum of the attached loss terms, scalar; None without terms.
        logits_per_image: (B_c, B_q) scaled cosine of the embeddings.
        logits_per_text: (B_q, B_c), its transpose.
        context_embeds, query_embeds: (B, D) shared embeddings, the masked mean of the shared tokens.
        context_shared, query_shared: (B, S, D) shared tokens.
        context_tokens, query_tokens: (B, S, D_c or D_q) what the adapters received: standardised features.
        context_mask, query_mask: (B, S), 1 for real tokens; None if all are.
        context_reconstruction, query_reconstruction: (B, S, D_c or D_q) decoders' outputs; None without decoders.
        logit_scale: Factor of the cosine in the logits, scalar.
        pair_mask, group_ids: (B,) as they were passed in, for the loss terms.
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


@dataclass
class _AnswerFirst(ModelOutput):
    """Puts the logits right after the loss, where users of tuples (`return_dict=False`) look for them."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


@dataclass
class OTMergeQuestionAnsweringOutput(OTMergeOutput, _AnswerFirst):
    """As [`OTMergeOutput`], with `logits` (B, num_labels) and `fuser_attentions`, (B, heads, S_q, S_c) per layer.

    `loss` is the answer loss plus the attached terms.
    """

    fuser_attentions: tuple[torch.Tensor | None, ...] | None = None


class Standardizer(nn.Module):
    """(x - mean) / std per feature dimension; the identity until fitted."""

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # in float32: subtracting a large mean in half precision would leave little of the feature
        return ((x.to(torch.promote_types(x.dtype, torch.float32)) - self.mean) / self.std).to(x.dtype)


class OTMergePreTrainedModel(PreTrainedModel):
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

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=max(std, module.in_features**-0.5))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, ContextPositions) and module.scale is not None:
            init.ones_(module.scale)
        elif isinstance(module, Standardizer):
            init.zeros_(module.mean)
            init.ones_(module.std)
        elif isinstance(module, LogitScale):
            init.constant_(module.log_scale, self.config.logit_scale_init_value)
        elif isinstance(module, Adapter):
            module.init_weights(std)

    def train(self, mode: bool = True):
        """Set training mode, but keep frozen encoders in `eval()`: BatchNorm statistics and dropout stay still."""
        super().train(mode)
        if self.config.freeze_encoders:
            for encoder in self._encoders():
                encoder.eval()
        return self

    def _encoders(self) -> list[nn.Module]:
        base = getattr(self, self.base_model_prefix, self)
        return [e for e in (getattr(base, f"{side}_encoder", None) for side in ("context", "query")) if e is not None]

    def freeze_encoders(self) -> None:
        """Stop the encoders' gradients, if the configuration says that they are frozen.

        Parameters put into a frozen encoder later (LoRA) learn: gradients flow wherever a parameter asks for one.
        """
        for encoder in self._encoders():
            encoder.requires_grad_(not self.config.freeze_encoders)

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
            raise ValueError(
                "`dtype` is the encoders' own: pass it in `context_kwargs`, `query_kwargs`, or cast after."
            )
        whole = {
            "context": _load_encoder(context, "context", kwargs.pop("context_kwargs", None)),
            "query": _load_encoder(query, "query", kwargs.pop("query_kwargs", None)),
        }
        encoders = {side: encoder_part(model, side) for side, model in whole.items()}
        if encoders["query"] is encoders["context"]:
            encoders["query"] = copy.deepcopy(encoders["query"])  # one module in two places could not be saved
        for side, encoder in encoders.items():
            if kwargs.get(f"{side}_feature_dim") is None:
                tokens = kwargs.get(f"{side}_tokens", "last_hidden_state")
                kwargs[f"{side}_feature_dim"] = probe_feature_dim(encoder, tokens)
        configs = [rebuildable_config(model, side) for side, model in whole.items()]
        config = OTMergeConfig.from_encoder_configs(*configs, **kwargs)
        return cls(config, context_encoder=encoders["context"], query_encoder=encoders["query"])

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """Load a saved merge; see [`PreTrainedModel.from_pretrained`]."""
        loaded = super().from_pretrained(*args, **kwargs)
        # loading replaces every parameter by one that wants a gradient
        (loaded[0] if isinstance(loaded, tuple) else loaded).freeze_encoders()
        return loaded

    def save_pretrained(self, save_directory, *args, save_original_format: bool = False, **kwargs):
        """Save weights (safetensors), configuration, and the code that loads them where this package is missing.

        `save_original_format` is off by default: Trainer's raw `load_state_dict` does not undo the key renaming that
        transformers applies to some encoders, and would silently leave them unloaded.
        """
        super().save_pretrained(save_directory, *args, save_original_format=save_original_format, **kwargs)


class LogitScale(nn.Module):
    """A learned inverse temperature, kept as its log; a module, so that PEFT's `modules_to_save` can name it."""

    def __init__(self, initial: float):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(float(initial)))

    def forward(self, cosine: torch.Tensor) -> torch.Tensor:
        return cosine * self.log_scale.exp()


class OTMergeModel(OTMergePreTrainedModel):
    """Two encoders in one shared space: tokens, embeddings and their similarities.

    Example:
        >>> from transformers import BertConfig, ViTConfig
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> config = OTMergeConfig.from_encoder_configs(
        ...     ViTConfig(image_size=32, patch_size=16, **small), BertConfig(vocab_size=50, **small), shared_dim=8
        ... )
        >>> model = OTMergeModel(config).eval()
        >>> model(pixel_values=torch.zeros(2, 3, 32, 32), input_ids=torch.ones(3, 4).long()).logits_per_image.shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        config: OTMergeConfig,
        context_encoder: PreTrainedModel | None = None,
        query_encoder: PreTrainedModel | None = None,
    ):
        super().__init__(config)
        for encoder in (context_encoder, query_encoder):
            for module in encoder.modules() if encoder is not None else ():
                # post_init would otherwise draw anew what was put in after loading: grown embeddings, a new pooler
                module._is_hf_initialized = True
        self.context_encoder = context_encoder or build_encoder(config.context_config, "context")
        self.query_encoder = query_encoder or build_encoder(config.query_config, "query")
        for side in ("context", "query"):
            # One object, so that a change of one (attention, vocabulary) is a change of the other.
            built = getattr(self, f"{side}_encoder").config
            if type(built) is type(getattr(config, f"{side}_config")):
                setattr(config, f"{side}_config", built)
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
        self,
        context_tokens: torch.Tensor,
        query_tokens: torch.Tensor,
        context_mask: torch.Tensor | None = None,
        query_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Shared embeddings (B, D) of both sides from standardised tokens (B, S, D_side)."""
        context = masked_mean(self.context_adapter(context_tokens), context_mask)
        return context, masked_mean(self.query_adapter(query_tokens), query_mask)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        input_features: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        context_input_ids: torch.LongTensor | None = None,
        context_attention_mask: torch.Tensor | None = None,
        context_features: torch.Tensor | None = None,
        context_features_mask: torch.Tensor | None = None,
        query_features: torch.Tensor | None = None,
        query_features_mask: torch.Tensor | None = None,
        pair_mask: torch.Tensor | None = None,
        group_ids: torch.Tensor | None = None,
        return_loss: bool = True,
        return_dict: bool | None = None,
    ) -> OTMergeOutput:
        """Bring both sides into the shared space.

        Args:
            pixel_values: (B, 3, H, W), for an image context.
            input_ids, attention_mask, token_type_ids: (B, S_q), the query.
            input_features, input_values: (B, mel, frames) or (B, samples), for an audio context.
            context_input_ids: (B, S_c), for a text context.
            context_attention_mask: Mask of an audio or text context.
            context_features, query_features: (B, S, D_side) encoder tokens in place of the inputs.
            context_features_mask, query_features_mask: (B, S), 1 for real tokens.
            pair_mask: (B,), 1 where row i's context and query belong together; all do if None. Only terms of pairs
                look at it.
            group_ids: (B,) integers; pairs with one number (two captions of an image) are no negatives of each other.
            return_loss: Whether to evaluate the attached loss terms.
            return_dict: Return a tuple when False.

        Raises:
            ValueError: If a side is missing, is not what its encoder takes, or holds NaN.
        """
        context_inputs = pick_context_input(
            self.context_encoder,
            context_features,
            pixel_values,
            input_features,
            input_values,
            context_input_ids,
        )
        require_query(self.query_encoder, query_features, input_ids)
        context_mask = context_attention_mask if context_features is None else context_features_mask
        query_mask = attention_mask if query_features is None else query_features_mask
        query_inputs = {"input_ids": input_ids, "token_type_ids": token_type_ids}

        context_tokens, context_mask = self.encode("context", context_inputs, context_mask, context_features)
        query_tokens, query_mask = self.encode("query", query_inputs, query_mask, query_features)
        context_shared = self.context_adapter(context_tokens)  # (B, S_c, D)
        query_shared = self.query_adapter(query_tokens)  # (B, S_q, D)
        context_embeds = masked_mean(context_shared, context_mask)  # (B, D)
        query_embeds = masked_mean(query_shared, query_mask)  # (B, D)

        cosine = nn.functional.normalize(query_embeds, dim=-1) @ nn.functional.normalize(context_embeds, dim=-1).T
        logits_per_text = self.logit_scale(cosine)  # (B_q, B_c)
        outputs = OTMergeOutput(
            logits_per_image=logits_per_text.T,
            logits_per_text=logits_per_text,
            context_embeds=context_embeds,
            query_embeds=query_embeds,
            context_shared=context_shared,
            query_shared=query_shared,
            context_tokens=context_tokens,
            query_tokens=query_tokens,
            context_mask=context_mask,
            query_mask=query_mask,
            context_reconstruction=_decode(self.context_adapter, context_shared),
            query_reconstruction=_decode(self.query_adapter, query_shared),
            logit_scale=self.logit_scale(torch.ones_like(cosine[0, 0])),
            pair_mask=pair_mask,
            group_ids=group_ids,
        )
        return OTMergeOutput(loss=self._sum_terms(None, outputs) if return_loss else None, **outputs)

    def get_context_embeds(self, **inputs) -> torch.Tensor:
        """Shared embeddings (B, D) of the context side alone; inputs as in `forward`."""
        names = ("pixel_values", "input_features", "input_values", "context_input_ids")
        features = inputs.get("context_features")
        picked = pick_context_input(self.context_encoder, features, *(inputs.get(name) for name in names))
        mask = inputs.get("context_attention_mask" if features is None else "context_features_mask")
        tokens, mask = self.encode("context", picked, mask, features)
        return masked_mean(self.context_adapter(tokens), mask)

    def get_query_embeds(self, **inputs) -> torch.Tensor:
        """Shared embeddings (B, D) of the query side alone; inputs as in `forward`."""
        features = inputs.get("query_features")
        require_query(self.query_encoder, features, inputs.get("input_ids"))
        mask = inputs.get("attention_mask" if features is None else "query_features_mask")
        picked = {name: inputs.get(name) for name in ("input_ids", "token_type_ids")}
        tokens, mask = self.encode("query", picked, mask, features)
        return masked_mean(self.query_adapter(tokens), mask)

    @torch.no_grad()
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
            mean, std = (torch.as_tensor(s).to(standardizer.mean) for s in statistics)
            if mean.shape != standardizer.mean.shape or std.shape != standardizer.mean.shape:
                raise ValueError(
                    f"`{side}` statistics have shapes {tuple(mean.shape)} and {tuple(std.shape)}; "
                    f"expected {tuple(standardizer.mean.shape)} each."
                )
            check_finite(torch.stack([mean, std]), f"{side} statistics")
            standardizer.mean.copy_(mean)
            standardizer.std.copy_(torch.where(std > 1e-3 * std.median(), std, torch.ones_like(std)))

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
        for side in ("context", "query"):
            weight, bias = getattr(fit, f"{side}_map_")
            standardizer = getattr(self, f"{side}_standardizer")
            if not standardized and isinstance(standardizer, Standardizer):
                bias = bias + weight @ standardizer.mean.to(weight)
                weight = weight * standardizer.std.to(weight)
            getattr(self, f"{side}_adapter").load_affine(weight, bias)


class OTMergeForQuestionAnswering(OTMergePreTrainedModel):
    """Answers a question about a context by choosing one of `config.num_labels` answers.

    Example:
        >>> from transformers import BertConfig, ViTConfig
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> config = OTMergeConfig.from_encoder_configs(
        ...     ViTConfig(image_size=32, patch_size=16, **small), BertConfig(vocab_size=50, **small),
        ...     shared_dim=8, num_labels=3,
        ... )
        >>> model = OTMergeForQuestionAnswering(config).eval()
        >>> model(pixel_values=torch.zeros(2, 3, 32, 32), input_ids=torch.ones(2, 4).long()).logits.shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        config: OTMergeConfig,
        context_encoder: PreTrainedModel | None = None,
        query_encoder: PreTrainedModel | None = None,
    ):
        super().__init__(config)
        self.otmerge = OTMergeModel(config, context_encoder, query_encoder)
        self.positions = ContextPositions(config, self.otmerge.context_encoder.main_input_name == "pixel_values")
        self.fuser = build_fuser(config)
        self.classifier = nn.Sequential(
            nn.Linear(config.shared_dim, config.shared_dim),
            nn.GELU(),
            nn.Dropout(config.fuser_dropout),
            nn.Linear(config.shared_dim, config.num_labels),
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        input_features: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        context_input_ids: torch.LongTensor | None = None,
        context_attention_mask: torch.Tensor | None = None,
        context_features: torch.Tensor | None = None,
        context_features_mask: torch.Tensor | None = None,
        query_features: torch.Tensor | None = None,
        query_features_mask: torch.Tensor | None = None,
        pair_mask: torch.Tensor | None = None,
        group_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> OTMergeQuestionAnsweringOutput:
        """Answer; the inputs are [`OTMergeModel.forward`]'s, one question per context.

        Args:
            labels: (B,) answer indices for cross-entropy (-100 is ignored), or (B, num_labels) soft targets in [0, 1]
                for binary cross-entropy, as VQA v2 is trained.
            output_attentions: Return the fuser's query-to-context weights (eager attention only).

        Raises:
            ValueError: If a side is missing or broken, the sides' batches differ, or a label is out of range.
        """
        aligned = self.otmerge(
            pixel_values=pixel_values,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            input_features=input_features,
            input_values=input_values,
            context_input_ids=context_input_ids,
            context_attention_mask=context_attention_mask,
            context_features=context_features,
            context_features_mask=context_features_mask,
            query_features=query_features,
            query_features_mask=query_features_mask,
            pair_mask=pair_mask,
            group_ids=group_ids,
            return_loss=False,
            return_dict=True,
        )
        if len(aligned.query_shared) != len(aligned.context_shared):
            raise ValueError(
                f"Got {len(aligned.context_shared)} contexts and {len(aligned.query_shared)} queries; "
                "each question needs its context."
            )
        context = self.positions(aligned.context_shared, pixel_values)  # (B, S_c, D)
        fused, attentions = self.fuser(aligned.query_shared, context, aligned.query_mask, aligned.context_mask)
        logits = self.classifier(fused)  # (B, num_labels)

        outputs = OTMergeQuestionAnsweringOutput(**aligned, logits=logits)
        if output_attentions:
            if any(weights is None for weights in attentions):
                raise ValueError(
                    '`output_attentions=True` needs `attn_implementation="eager"`; '
                    'call `model.set_attn_implementation("eager")` first.'
                )
            outputs.fuser_attentions = attentions
        if labels is None:
            return outputs
        loss = self._sum_terms(self.answer_loss(logits, labels), outputs)
        return OTMergeQuestionAnsweringOutput(loss=loss, **outputs)

    def answer_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of hard labels (B,); binary cross-entropy of soft ones (B, num_labels), summed over labels.

        Soft labels are noted in the configuration, so that the pipeline shows sigmoids. A batch with no label but
        -100 gives 0.
        """
        check_labels(labels, logits)
        if labels.dim() == 2:
            if self.config.problem_type is None:
                self.config.problem_type = "multi_label_classification"
            losses = nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
            return losses.sum(dim=-1).mean()
        summed = nn.functional.cross_entropy(logits, labels, reduction="sum")
        return summed / (labels != -100).sum().clamp(min=1)


def _decode(adapter: Adapter, shared: torch.Tensor) -> torch.Tensor | None:
    return None if adapter.decoder is None else adapter.decoder(shared)


def _load_encoder(source: str | PreTrainedModel, side: str, kwargs: dict | None) -> PreTrainedModel:
    """Load one side's model by name, folder or instance."""
    if isinstance(source, PreTrainedModel):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"`{side}` is a {type(source).__name__}; expected a name, a folder or a model.")
    # One precision for both: a half-precision encoder would otherwise decide how the whole merge is reloaded.
    kwargs = {"dtype": torch.float32} | (kwargs or {})
    try:
        return AutoModel.from_pretrained(source, **kwargs)
    except OSError as error:
        raise OSError(
            f"`{side}={str(source)!r}` is neither a folder with a saved model nor a model on the Hub that can be "
            f"reached ({str(error).splitlines()[0]})"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"`{side}={str(source)!r}` is no encoder that transformers can load ({str(error).splitlines()[0]})"
        ) from error


__all__ = ["OTMergeForQuestionAnswering", "OTMergeModel", "OTMergePreTrainedModel"]
