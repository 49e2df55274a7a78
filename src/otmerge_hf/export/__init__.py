"""A merge in other libraries' formats: folders that sentence-transformers and onnxruntime load."""

from .onnx import export_onnx
from .sentence_transformers import export_sentence_transformers


__all__ = ["export_onnx", "export_sentence_transformers"]
