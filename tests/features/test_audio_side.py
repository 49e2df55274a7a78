"""Features of sounds are what the merge's own encoder gives, at a sampling rate that was stated."""

import numpy as np
import pytest
import torch

from otmerge_hf import OTMergeAudioProcessor
from otmerge_hf.features import encode


RATE = 16_000


def test_sounds_are_kept_as_the_model_sees_them(merge, feature_extractor, tokenizer, tmp_path):
    sounds = [np.random.default_rng(i).standard_normal(800).astype(np.float32) for i in range(3)]
    model, processor = merge(context="wav2vec2"), OTMergeAudioProcessor(feature_extractor("wav2vec2"), tokenizer)
    with pytest.raises(ValueError, match="`sampling_rate` is missing"):
        encode(model, processor, "context", sounds, cache_dir=tmp_path, progress=False)
    store = encode(model, processor, "context", sounds, cache_dir=tmp_path, sampling_rate=RATE, progress=False)
    features, mask = store.batch(range(3))
    raw = processor(audio=sounds, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        cached = model.otmerge.get_context_embeds(context_features=features, context_features_mask=mask)
        torch.testing.assert_close(cached, model.otmerge.get_context_embeds(**raw), atol=1e-5, rtol=1e-5)
