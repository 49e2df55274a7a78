"""A saved merge, with its processor."""

from pathlib import Path

from transformers import AutoConfig, AutoProcessor

from ..model.configuration_otmerge import OTMergeConfig
from ..model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergeModel
from ..model.processing_otmerge import OTMergeProcessor


def load_merge(name: str) -> tuple[OTMergeForQuestionAnswering | OTMergeModel, OTMergeProcessor]:
    """Load a merge, with its answer head where it has one.

    Raises:
        ValueError: If it is no merge.
        OSError: If it is not found.
    """
    if not Path(name).exists() and name.count("/") > 1:
        raise ValueError(f"model {name!r} is no folder here, and no name on the Hub (owner/name)")
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise ValueError(f"model {name!r} is a folder without a saved merge: it has no config.json")
    try:
        config = AutoConfig.from_pretrained(name)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise OSError(f"model {name!r} is no saved merge here or on the Hub ({reason})") from error
    if not isinstance(config, OTMergeConfig):
        raise ValueError(
            f"model {name!r} is a {config.model_type} model; expected a merge, as otmerge train saves one"
        )
    answers = OTMergeForQuestionAnswering.__name__ in (config.architectures or ())
    model = (OTMergeForQuestionAnswering if answers else OTMergeModel).from_pretrained(name).eval()
    return model, AutoProcessor.from_pretrained(name)


def load_answering(name: str) -> tuple[OTMergeForQuestionAnswering, OTMergeProcessor]:
    """Load a merge with an answer head; raises as [`load_merge`] does, and ValueError if it only retrieves."""
    model, processor = load_merge(name)
    if isinstance(model, OTMergeModel) or model.head_is_untrained:
        raise ValueError(f"model {name!r} retrieves only: it has no answer head; otmerge train teaches one")
    return model, processor
