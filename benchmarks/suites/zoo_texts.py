"""The text encoders of the suite `zoo`, and tiny vocabularies for the tokenizers of their families."""

from collections.abc import Sequence
from typing import Any

from .zoo_families import PATCHES, SMALL, Family


WORDS = ["what", "color", "is", "the", "shape", "there", "a", "red", "green", "blue", "yes", "no", "image", "shows"]
WORDS += ["one", "of"]
TEXTS = ("what color is the shape ?", "is it red ?", "is there a blue shape in the image of one color ?")


def wordpiece(special: Sequence[str]) -> dict[str, int]:
    """Whole words, and letters for the others."""
    letters = [chr(ord("a") + i) for i in range(26)]
    return _numbered([*special, "?", *WORDS, *letters, *(f"##{letter}" for letter in letters)])


def bytes_(special: Sequence[str]) -> dict[str, int]:
    """The 256 bytes, as byte-level BPE writes them."""
    from tokenizers.pre_tokenizers import ByteLevel

    return _numbered([*special, *sorted(ByteLevel.alphabet())])


def clip(special: Sequence[str]) -> dict[str, int]:
    """Bytes, and bytes at the end of a word."""
    letters = list(bytes_([]))
    return _numbered([*letters, *(f"{letter}</w>" for letter in letters), *special])


def pieces(special: Sequence[str]) -> list[tuple[str, float]]:
    """Words with scores, for a unigram model."""
    letters = ["▁", "?", *(chr(ord("a") + i) for i in range(26))]
    return [(word, 0.0) for word in special] + [(f"▁{w}", -2.0) for w in WORDS] + [(c, -6.0) for c in letters]


def characters(special: Sequence[str]) -> dict[str, int]:
    """Letters, as the BPE of Llama and Gemma starts from."""
    letters = ["▁", "?", *(chr(ord("a") + i) for i in range(26))]
    return _numbered([*special, *letters])


def _numbered(words: Sequence[str]) -> dict[str, int]:
    return {word: i for i, word in enumerate(dict.fromkeys(words))}


_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_FUNNEL = ("<pad>", "<unk>", "<cls>", "<sep>", "<mask>", "<s>", "</s>")
_ALBERT = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>")
_LLAMA = ("<unk>", "<s>", "</s>")
_GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
_VOCABULARY = {"vocab_size": 600, "max_position_embeddings": 80}  # CLIP's 514 are the most


def _text(model: str, tokenizer: str, vocabulary: str, special: Sequence[str], **config: Any) -> Family:
    config = {**_VOCABULARY, **SMALL, **config}
    options = {"vocabulary": vocabulary, "special": special}
    return Family(model, {k: v for k, v in config.items() if v is not None}, tokenizer, options)


def _towers(model: str, tokenizer: str, special: Sequence[str], missing: str = "", **config: Any) -> Family:
    """A model of images and texts whose text half AutoModel does not load alone."""
    text = {**_VOCABULARY, **SMALL, "max_position_embeddings": 64, **config}
    options = {"vocabulary": "characters", "special": special, "padding_side": "right"}
    config = {"text_config": text, "vision_config": PATCHES}
    return Family(model, config, tokenizer or None, options, missing)


_HEADS = {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": None}
_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "pad_token_id": 0, "eos_token_id": 1}
_BIRD = ("<pad>", "</s>", "<s>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
_XLNET = ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>")
_CLIP = ("<|startoftext|>", "<|endoftext|>")
_QWEN = ("<|endoftext|>",)

TEXT = {
    "bert": _text("BertModel", "BertTokenizer", "wordpiece", _BERT),
    "roberta": _text("RobertaModel", "RobertaTokenizer", "bytes_", _ROBERTA, pad_token_id=1),
    "xlm-roberta": _text("XLMRobertaModel", "XLMRobertaTokenizer", "pieces", _ROBERTA, pad_token_id=1),
    "distilbert": _text("DistilBertModel", "BertTokenizer", "wordpiece", _BERT, dim=16, n_layers=2, n_heads=2,
                        hidden_dim=32, hidden_size=None, num_hidden_layers=None, num_attention_heads=None),
    "electra": _text("ElectraModel", "BertTokenizer", "wordpiece", _BERT, embedding_size=8),
    "albert": _text("AlbertModel", "AlbertTokenizer", "pieces", _ALBERT, embedding_size=8),
    "modernbert": _text("ModernBertModel", "TokenizersBackend", "wordpiece", _BERT, pad_token_id=0, cls_token_id=2,
                        sep_token_id=3, bos_token_id=2, eos_token_id=3, local_attention=8),
    "mpnet": _text("MPNetModel", "MPNetTokenizer", "wordpiece", ("<s>", "<pad>", "</s>", "[UNK]", "<mask>"),
                   pad_token_id=1),
    "deberta": _text("DebertaModel", "DebertaTokenizer", "bytes_", _BERT, relative_attention=True,
                     pos_att_type=["p2c", "c2p"], max_relative_positions=-1, position_biased_input=False),
    "deberta-v2": _text("DebertaV2Model", "DebertaV2Tokenizer", "pieces", _BERT, relative_attention=True,
                        pos_att_type=["p2c", "c2p"], position_buckets=8, share_att_key=True, norm_rel_ebd="layer_norm",
                        position_biased_input=False, type_vocab_size=0),
    "xlnet": _text("XLNetModel", "XLNetTokenizer", "pieces", _XLNET, d_model=16, n_layer=2, n_head=2, d_inner=32,
                   pad_token_id=5, hidden_size=None, num_hidden_layers=None, num_attention_heads=None,
                   intermediate_size=None, max_position_embeddings=None),
    "funnel": _text("FunnelModel", "FunnelTokenizer", "wordpiece", _FUNNEL, d_model=16, block_sizes=[1, 1], n_head=2,
                    num_decoder_layers=1, d_head=8, d_inner=32, pad_token_id=0, hidden_size=None,
                    num_hidden_layers=None, num_attention_heads=None, intermediate_size=None),
    "big-bird": _text("BigBirdModel", "BigBirdTokenizer", "pieces", _BIRD, attention_type="block_sparse", block_size=4,
                      num_random_blocks=1, max_position_embeddings=160),
    "longformer": _text("LongformerModel", "RobertaTokenizer", "bytes_", _ROBERTA, attention_window=[8, 8],
                        pad_token_id=1, max_position_embeddings=160),
    "fnet": _text("FNetModel", "FNetTokenizer", "pieces", _ALBERT, pad_token_id=0),
    "t5": _text("T5EncoderModel", "T5Tokenizer", "pieces", ("<pad>", "</s>", "<unk>"), **_T5),
    "mt5": _text("MT5EncoderModel", "T5Tokenizer", "pieces", ("<pad>", "</s>", "<unk>"),
                 **_T5, feed_forward_proj="gated-gelu"),
    "bart": _text("BartModel", "RobertaTokenizer", "bytes_", _ROBERTA, d_model=16, encoder_layers=2, decoder_layers=1,
                  encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
                  hidden_size=None, num_hidden_layers=None, num_attention_heads=None, pad_token_id=1),
    "gpt2": _text("GPT2Model", "GPT2Tokenizer", "bytes_", _QWEN, n_embd=16, n_layer=2, n_head=2, n_positions=80,
                  bos_token_id=0, eos_token_id=0, hidden_size=None, num_hidden_layers=None, num_attention_heads=None,
                  max_position_embeddings=None),
    "llama": _text("LlamaModel", "LlamaTokenizer", "characters", _LLAMA, **_HEADS),
    "qwen2": _text("Qwen2Model", "Qwen2Tokenizer", "bytes_", _QWEN, **_HEADS),
    "qwen3": _text("Qwen3Model", "Qwen2Tokenizer", "bytes_", _QWEN, **_HEADS),
    "gemma": _text("GemmaModel", "GemmaTokenizer", "characters", _GEMMA, **_HEADS | {"pad_token_id": 0}),
    "clip-text": _text("CLIPTextModel", "CLIPTokenizer", "clip", _CLIP, bos_token_id=512, eos_token_id=513,
                       pad_token_id=513),
    "siglip-text": _towers("SiglipModel", "", (), "its tokenizer takes sentencepiece", pad_token_id=1, bos_token_id=2,
                           eos_token_id=1),
    "siglip2-text": _towers("Siglip2Model", "Siglip2Tokenizer", _GEMMA, pad_token_id=0, bos_token_id=2,
                            eos_token_id=1),
    "eurobert": _text("EuroBertModel", "TokenizersBackend", "wordpiece", _BERT, **_HEADS | {"pad_token_id": 0},
                      bos_token_id=2, eos_token_id=3, mask_token_id=4),
    "nomic-bert": _text("NomicBertModel", "BertTokenizer", "wordpiece", _BERT),
}  # fmt: skip
