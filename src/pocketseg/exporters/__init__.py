"""Models in the formats of others."""

from pocketseg.exporters.onnx import Parity, compare, export_onnx

__all__ = ["Parity", "compare", "export_onnx"]
