"""Which attention each part of a merge computes with."""

from transformers import PreTrainedModel
from transformers.utils import logging

from .modality import SIDES


logger = logging.get_logger(__name__)


class AttentionByPart:
    """Lets parts of a merge compute attention in different ways, as [`PreTrainedModel.from_pretrained`] does."""

    def set_attn_implementation(self, attn_implementation: str | dict, *args, **kwargs) -> None:
        """Change the attention of the fuser and of both encoders.

        Args:
            attn_implementation: One for all (an encoder that does not know it keeps its own, with a warning), or a
                dict with the keys `""` (the fuser), `context_config` and `query_config`.
            *args, **kwargs: See [`PreTrainedModel.set_attn_implementation`].

        Raises:
            ValueError: If the fuser, or an encoder that the dict names, does not know it.
        """
        if isinstance(attn_implementation, str):
            base = getattr(self, self.base_model_prefix, self)
            chosen = {f"{s}_config": _known(getattr(base, f"{s}_encoder"), attn_implementation) for s in SIDES}
            attn_implementation = {"": attn_implementation} | chosen
        super().set_attn_implementation(attn_implementation, *args, **kwargs)


def _known(encoder: PreTrainedModel, wanted: str) -> str:
    """`wanted`, or what the encoder computes with already, if it does not know that."""
    try:
        return encoder.get_correct_attn_implementation(wanted)
    except (ValueError, ImportError) as error:
        kept, kind = encoder.config._attn_implementation, encoder.config.model_type
        reason = str(error).splitlines()[0]
        logger.warning_once(f"The `{kind}` encoder keeps its `{kept}` attention; it has no `{wanted}`: {reason}")
        return kept
