"""Merge two frozen pretrained encoders into one transformers model with optimal transport.

Importing this package registers its model, processor and pipelines with transformers' Auto classes.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVisualQuestionAnswering,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
)
from transformers import pipelines as _pipelines

from .encoders.names import find_packaged
from .export import export_sentence_transformers
from .hub.write import write_hub_card, write_missing_card
from .model.checkpoint import AFTER_SAVING, BEFORE_UPLOADING, EXPORTERS
from .model.configuration_otmerge import OTMergeConfig
from .model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergeModel
from .model.pipeline_otmerge import OTMergeClassificationPipeline, OTMergeVQAPipeline
from .model.processing_otmerge import OTMergeAudioProcessor, OTMergeProcessor, OTMergeTextProcessor
from .model.sources import ENCODER_FINDERS


__version__ = "0.1.0"

AutoConfig.register(OTMergeConfig.model_type, OTMergeConfig, exist_ok=True)
AutoModel.register(OTMergeConfig, OTMergeModel, exist_ok=True)
AutoModelForZeroShotImageClassification.register(OTMergeConfig, OTMergeModel, exist_ok=True)
AutoModelForVisualQuestionAnswering.register(OTMergeConfig, OTMergeForQuestionAnswering, exist_ok=True)
AutoProcessor.register(OTMergeConfig, OTMergeProcessor, exist_ok=True)

# Encoders that are packages: a merge that was saved without them finds them by their weights' digest.
ENCODER_FINDERS.append(find_packaged)
# A saved folder says what it is; one that has a README keeps it.
AFTER_SAVING.append(write_missing_card)
BEFORE_UPLOADING.append(write_hub_card)
EXPORTERS["sentence-transformers"] = export_sentence_transformers

# transformers 5 dropped the task `visual-question-answering` and refuses its name before looking it up; where the
# table of refused names is reachable the name is freed, elsewhere only `otmerge-vqa` exists.
_PIPELINES = {
    "vqa": OTMergeVQAPipeline,
    "visual-question-answering": OTMergeVQAPipeline,
    "otmerge-vqa": OTMergeVQAPipeline,
    "otmerge-classification": OTMergeClassificationPipeline,
}
for _task, _pipeline in _PIPELINES.items():
    getattr(_pipelines, "REMOVED_TASKS", {}).pop(_task, None)
    if _task not in _pipelines.PIPELINE_REGISTRY.get_supported_tasks():
        _pipelines.PIPELINE_REGISTRY.register_pipeline(
            _task, pipeline_class=_pipeline, pt_model=AutoModelForVisualQuestionAnswering, type="multimodal"
        )
del _task, _pipeline

__all__ = [
    "OTMergeAudioProcessor",
    "OTMergeClassificationPipeline",
    "OTMergeConfig",
    "OTMergeForQuestionAnswering",
    "OTMergeModel",
    "OTMergeProcessor",
    "OTMergeTextProcessor",
    "OTMergeVQAPipeline",
]
