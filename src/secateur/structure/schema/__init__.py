"""Schemas: what leaves together in a network as JSON that people read, edit and give back."""

from secateur.structure.schema.document import Difference, Schema, diff_schemas, json_schema, read_schema
from secateur.structure.schema.edits import apply_schema, prefix_of
from secateur.structure.schema.view import base_schema

__all__ = [
    "Difference",
    "Schema",
    "apply_schema",
    "base_schema",
    "diff_schemas",
    "json_schema",
    "prefix_of",
    "read_schema",
]
