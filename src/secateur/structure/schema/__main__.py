"""`python -m secateur.structure.schema > docs/schema.json` writes the JSON Schema of schema files."""

from __future__ import annotations

import sys

from secateur.structure.schema import json_schema

sys.stdout.write(json_schema())
