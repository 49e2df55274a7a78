"""Small checkpoints of this version, with what they answer; made once a release, and loaded by a test ever after.

`python tests/shelf/make_shelf.py` writes `tests/shelf/<version>/`, which must not be there. The encoders are random
and tiny. Every adapter and every fuser stands there, whole and without encoders, in safetensors; the code that a saved
folder has beside is left out: the installed code is what is tested.
"""

from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, BertTokenizer, ViTConfig, ViTImageProcessor, ViTModel

import otmerge_hf
from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel, OTMergeProcessor
from otmerge_hf.model.configuration_otmerge import LINEAR_PATHS


SHELF = Path(__file__).parent
QUESTION = "what color is the shape ?"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *QUESTION.split(), "a", "red", "blue"]
MERGES = {  # every adapter and every fuser at least once, and the choices that change what is saved
    "linear-cross_attention": {"fuser_num_layers": 2, "linear_path": list(LINEAR_PATHS), "reconstruction": True},
    "mlp-bidirectional": {"adapter_hidden_size": 8, "query_tokens": "cls", "linear_path": []},
    "orthogonal-self_cross_block": {"context_positions": "sequence"},
    "monge-concat": {"context_tokens": "pooled"},
    "coupling-average": {"context_tokens": 1, "problem_type": "multi_label_classification"},
    "linear-transport": {"standardize": False, "fuser_num_heads": 1},
}


def build_encoders():
    torch.manual_seed(0)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    vit = ViTModel(ViTConfig(image_size=16, patch_size=8, **small))
    return vit, BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, **small))


def build_merge(encoders, cls, **options):
    """A merge in which every weight beside the encoders' says something: nothing is left at zero or one."""
    answers = {"id2label": {0: "red", 1: "blue", 2: "no"}, "label2id": {"red": 0, "blue": 1, "no": 2}}
    options = {"shared_dim": 8, "fuser_num_heads": 2} | answers | options
    model = cls.from_encoders_pretrained(*encoders, **options).eval()
    base = getattr(model, "otmerge", model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "_encoder." not in name and "log_scale" not in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    if model.config.standardize:
        statistics = torch.randn(8, generator=generator), 0.5 + torch.rand(8, generator=generator)
        base.fit_standardization(context=statistics, query=statistics)
    return model


def main():
    shelf = SHELF / otmerge_hf.__version__
    shelf.mkdir()
    encoders = build_encoders()
    for side, encoder in zip(("context", "query"), encoders, strict=True):
        encoder.save_pretrained(shelf / "encoders" / side)
    folders = [str(shelf / "encoders" / side) for side in ("context", "query")]
    tokenizer = BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)}, model_max_length=16)
    processor = OTMergeProcessor(ViTImageProcessor(size={"height": 16, "width": 16}, do_resize=False), tokenizer)
    processor.save_pretrained(shelf / "processor")
    images = [Image.new("RGB", (16, 16), color) for color in ("red", "#204080")]
    inputs = dict(processor(images=images, text=[QUESTION, "a blue shape"], return_tensors="pt"))
    inputs["pixel_values"] += 0.3 * torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    save_file(inputs, shelf / "inputs.safetensors")

    expected = {}
    for name, options in MERGES.items():
        adapter, fuser = name.split("-")
        options = {"adapter_type": adapter, "fuser_type": fuser} | options
        model = build_merge(folders, OTMergeForQuestionAnswering, **options)
        expected |= save_both(model, shelf, name, inputs, "logits")
    expected |= save_both(build_merge(folders, OTMergeModel), shelf, "aligned", inputs, "logits_per_image")
    save_file(expected, shelf / "expected.safetensors")
    for left_out in (*shelf.rglob("*.py"), *shelf.rglob("README.md")):
        left_out.unlink()


def save_both(model, shelf, name, inputs, output):
    model.save_pretrained(shelf / name / "whole")
    model.save_pretrained(shelf / name / "thin", save_encoders=False, keep_folders=False)
    with torch.no_grad():
        return {name: model(**inputs)[output].contiguous()}


if __name__ == "__main__":
    main()
