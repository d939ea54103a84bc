"""Files of other formats: written, run again, and compared with the network."""

from secateur.store.exporting import executorch, onnx, openvino, torch_export  # noqa: F401  (they register themselves)
from secateur.store.exporting.export import OPSET, ExportOptions, demand_free, export, format_of, record_path
from secateur.store.exporting.exporter import EXPORTERS, Exporter, Run, Written

__all__ = [
    "EXPORTERS",
    "OPSET",
    "ExportOptions",
    "Exporter",
    "Run",
    "Written",
    "demand_free",
    "export",
    "format_of",
    "record_path",
]
