"""Models in the formats of others."""

from pocketseg.exporters.onnx import Parity, compare, export_onnx, onnx_file

__all__ = ["Parity", "compare", "export_onnx", "onnx_file"]
