"""Fitted and learned scales: of the features before an adapter, and of the cosine between the sides."""

import torch
from torch import nn
from transformers import initialization as init
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps, WeightConverter
from transformers.utils import logging

from .configuration_otmerge import OTMergeConfig
from .validation import check_finite


logger = logging.get_logger(__name__)


class Standardizer(nn.Module):
    """(x - mean) / std per feature dimension; the identity until fitted, of which a warning tells in training."""

    def __init__(self, dim: int):
        super().__init__()
        self._looked = False
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def init_weights(self) -> None:
        """Start as the identity."""
        init.zeros_(self.mean)
        init.ones_(self.std)

    @property
    def is_fitted(self) -> bool:
        """Whether statistics were stored."""
        return bool(self.mean.any()) or not torch.equal(self.std, torch.ones_like(self.std))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and not self._looked and not torch.compiler.is_compiling():
            self._looked = True  # once: on a GPU a look waits for what is computed before it
            if not self.is_fitted:
                logger.warning_once(
                    "A merge is trained on features that are not standardised, which costs accuracy: call "
                    "`fit_standardization` before (`data.encode_questions` and `features.standardize_on` do), or "
                    "build it with `standardize=False`."
                )
        # in float32: subtracting a large mean in half precision would leave little of the feature
        return ((x.to(torch.promote_types(x.dtype, torch.float32)) - self.mean) / self.std).to(x.dtype)

    @torch.no_grad()
    def fit(self, mean: torch.Tensor, std: torch.Tensor, side: str) -> None:
        """Store the statistics (D_side,) of one side's features; where there is (nearly) no spread, the scale stays 1.

        Raises:
            ValueError: If they are of another width, or hold NaN.
        """
        mean, std = (torch.as_tensor(values).to(self.mean) for values in (mean, std))
        if mean.shape != self.mean.shape or std.shape != self.mean.shape:
            raise ValueError(
                f"`{side}` statistics have shapes {tuple(mean.shape)} and {tuple(std.shape)}; "
                f"expected {tuple(self.mean.shape)} each."
            )
        check_finite(torch.stack([mean, std]), f"{side} statistics")
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-3 * std.median(), std, torch.ones_like(std)))

    def fold_in(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn a map of raw features, weight (D, D_side) and bias (D,), into the same map of standardised ones."""
        return weight * self.std.to(weight), bias + weight @ self.mean.to(weight)


class LogitScale(nn.Module):
    """A learned inverse temperature, kept as its log; a module, so that PEFT's `modules_to_save` can name it.

    One dimension of size 1, because FSDP2 shards along a dimension and refuses scalars. Checkpoints of before, with
    a scalar, load as they are: here for a plain `load_state_dict`, below for `from_pretrained`.
    """

    def __init__(self, initial: float):
        super().__init__()
        self.initial = float(initial)
        self.log_scale = nn.Parameter(torch.full((1,), self.initial))

    def init_weights(self) -> None:
        """Start at the configuration's `logit_scale_init_value`."""
        init.constant_(self.log_scale, self.initial)

    def forward(self, cosine: torch.Tensor) -> torch.Tensor:
        # as a scalar, which leaves the cosine's precision as it is
        return cosine * self.log_scale.exp().squeeze(0)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        name = f"{prefix}log_scale"
        if name in state_dict and state_dict[name].dim() == 0:
            state_dict[name] = state_dict[name].reshape(1)
        super()._load_from_state_dict(state_dict, prefix, *args)


class ToOneDimension(ConversionOps):
    """Read a scalar as a tensor (1,); one of that shape stays as it is. Saving changes nothing back."""

    def convert(self, input_dict, **kwargs):
        return {name: [tensor.reshape(1) for tensor in tensors] for name, tensors in input_dict.items()}

    @property
    def reverse_op(self) -> ConversionOps:
        return self


# transformers' own loader puts tensors in by itself, past `_load_from_state_dict`. Registered anew where remote code
# stands beside the installed package: both do the same.
_NAME = "logit_scale.log_scale"
register_checkpoint_conversion_mapping(
    OTMergeConfig.model_type, [WeightConverter(_NAME, _NAME, [ToOneDimension()])], overwrite=True
)
