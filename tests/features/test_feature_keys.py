import hashlib
import os

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, BertConfig, BertModel, EfficientNetImageProcessorPil, ProcessorMixin

from otmerge_hf.encoders import minilm_l6_path
from otmerge_hf.features import encoder_key, inputs_key


def _encoder(**changes):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 50,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    return BertModel(BertConfig(**(sizes | changes)))


def _key(encoder, processor=None, tokens="last_hidden_state", dtype=torch.float32):
    return encoder_key(encoder, processor, tokens=tokens, dtype=dtype)


def test_same_weights_give_the_same_key_however_they_are_held(tmp_path):
    encoder = _encoder()
    key = _key(encoder)
    assert _key(_encoder()) == key
    assert _key(encoder.train()) == _key(encoder.eval()) == key
    assert _key(encoder.requires_grad_(False)) == key
    encoder.save_pretrained(tmp_path)
    assert _key(BertModel.from_pretrained(tmp_path)) == key


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda: _key(_one_weight_changed()), "weights"),
        (lambda: _key(_encoder().bfloat16()), "weights"),
        (lambda: _key(_encoder(layer_norm_eps=1e-3)), "config"),
        (lambda: _key(_encoder(), tokens=-2), "tokens"),
        (lambda: _key(_encoder(), dtype=torch.bfloat16), "dtype"),
        (lambda: _key(_encoder(), EfficientNetImageProcessorPil()), "processor"),
    ],
)
def test_a_change_that_matters_changes_its_part_of_the_key(change, part):
    old, new = _key(_encoder()), change()
    assert [name for name in old if old[name] != new[name]] == [part]


def _one_weight_changed():
    encoder = _encoder()
    with torch.no_grad():
        encoder.encoder.layer[0].output.dense.bias[3] += 1e-7
    return encoder


def test_meta_weights_are_refused():
    with torch.device("meta"):
        encoder = BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    with pytest.raises(ValueError, match=r"encoder has no data for \S+ \(meta device\)"):
        _key(encoder)


def test_image_processor_settings_count(tmp_path):
    encoder = _encoder()
    small = EfficientNetImageProcessorPil(size={"height": 64, "width": 64})
    small.save_pretrained(tmp_path)
    key = _key(encoder, small)
    assert _key(encoder, EfficientNetImageProcessorPil.from_pretrained(tmp_path)) == key
    assert _key(encoder, EfficientNetImageProcessorPil(size={"height": 96, "width": 64})) != key
    small.do_normalize = False
    assert _key(encoder, small) != key


def test_tokenizer_key_does_not_remember_how_it_was_used():
    encoder, tokenizer = _encoder(), AutoTokenizer.from_pretrained(minilm_l6_path())
    key = _key(encoder, tokenizer)
    tokenizer(["a", "longer text"], padding=True, truncation=True, max_length=3)
    assert _key(encoder, tokenizer) == key
    tokenizer.padding_side = "left"
    assert _key(encoder, tokenizer) != key
    tokenizer.padding_side = "right"
    assert _key(encoder, tokenizer) == key
    tokenizer.add_tokens(["teal"])
    assert _key(encoder, tokenizer) != key


class _Pair(ProcessorMixin):
    def __init__(self, image_processor=None, tokenizer=None, **kwargs):
        super().__init__(image_processor, tokenizer, **kwargs)


def test_processor_counts_all_its_parts():
    encoder, tokenizer = _encoder(), AutoTokenizer.from_pretrained(minilm_l6_path())
    pair = _key(encoder, _Pair(EfficientNetImageProcessorPil(), tokenizer))
    assert _key(encoder, _Pair(EfficientNetImageProcessorPil(), tokenizer)) == pair
    assert _key(encoder, _Pair(EfficientNetImageProcessorPil(do_resize=False), tokenizer)) != pair


def test_files_count_by_content_not_by_name_or_time(tmp_path):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    key = inputs_key([one])
    assert inputs_key([two]) == key
    os.utime(one, (1, 1))
    assert inputs_key([one]) == key
    one.write_bytes(b"else")
    assert inputs_key([one]) != key


def test_a_path_given_as_text_counts_by_content_too(tmp_path):
    path = str(tmp_path / "one.png")
    missing = inputs_key([path])
    (tmp_path / "one.png").write_bytes(b"a")
    first = inputs_key([path])
    (tmp_path / "one.png").write_bytes(b"b")
    assert len({missing, first, inputs_key([path])}) == 3


def test_images_count_by_pixels():
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    assert inputs_key([red]) == inputs_key([red.copy()])
    different = [[red], [blue], [red.resize((2, 8))], [red.convert("RGBA")], [red, red]]
    assert len({inputs_key(images) for images in different}) == len(different)


def test_hash_of_texts_and_ordinary_images_is_what_it_has_always_been(tmp_path):
    """Features of before stay valid: these hashes were made by version 0.1."""
    image = Image.new("RGB", (4, 3), (1, 2, 3))
    grey = Image.new("L", (4, 3), 7)
    (tmp_path / "plain.ppm").write_bytes(b"P6 2 1 255\n" + bytes(range(6)))
    assert inputs_key([image])[:16] == "bfb33a450c78ec92"
    assert inputs_key([grey])[:16] == "ef6e9fdcf08112fd"
    assert inputs_key([tmp_path / "plain.ppm"])[:16] == "2e38aebabb939055"
    assert inputs_key(["a text", "another"])[:16] == "622f24943ea23af0"


def test_hash_of_an_image_that_was_opened_otherwise_is_new(tmp_path):
    """Their features of before saw the photograph lying on its side, and the transparent parts' hidden colours."""
    image = Image.new("RGB", (4, 2), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.convert("RGBA").save(tmp_path / "alpha.png")
    image.save(tmp_path / "plain.png")
    for name in ("turned.jpg", "alpha.png", "plain.png"):
        content = (tmp_path / name).read_bytes()
        inner = hashlib.sha256(b"file\0" + hashlib.sha256(content).digest() + b"\0").digest()
        assert (inputs_key([tmp_path / name]) == hashlib.sha256(inner).hexdigest()) is (name == "plain.png")
    with Image.open(tmp_path / "turned.jpg") as turned:
        flat = Image.frombytes("RGB", turned.size, turned.convert("RGB").tobytes())
        assert inputs_key([turned]) != inputs_key([flat])
    one, two = (Image.frombytes("P", (2, 1), b"\0\1") for _ in range(2))
    one.putpalette([0, 0, 0, 255, 0, 0])
    two.putpalette([0, 0, 0, 0, 255, 0])
    assert inputs_key([one]) != inputs_key([two])  # the same indices into other palettes


def test_values_of_different_kinds_differ():
    lists = [
        ["1"],
        [1],
        [1.0],
        [b"1"],
        [None],
        [["1"]],
        [{"1": 1}],
        [{"1": 2}],
        [np.ones(2, np.float32)],
        [np.ones((1, 2), np.float32)],
        [np.ones(2)],
        [torch.ones(2)],
        ["ab", "c"],
        ["a", "bc"],
        ["c", "ab"],
    ]
    assert len({inputs_key(values) for values in lists}) == len(lists)


def test_missing_file_and_unknown_kind_name_the_row(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"inputs\[1\]: no such file: .*absent\.png"):
        inputs_key(["text", tmp_path / "absent.png"])
    with pytest.raises(ValueError, match=r"inputs\[0\]: cannot hash a object"):
        inputs_key([object()])
