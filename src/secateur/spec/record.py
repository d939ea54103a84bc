"""Frozen records that round-trip through JSON: the only thing that passes from one stage to the next."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import TypeAdapter, ValidationError

from secateur.spec.errors import StoreError


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def first_fault(error: ValidationError) -> str:
    """Where the first thing is that does not fit, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"]) or "(top level)"
    return f"at {place}: {first['msg']}"


@dataclass(frozen=True)
class Record:
    """Base of the records; each subclass has a `schema_version` field with the version it writes as its default."""

    __pydantic_config__: ClassVar = {"ser_json_inf_nan": "strings"}

    def to_json(self, *, indent: int | None = None) -> str:
        """The record as JSON text."""
        return _adapter(type(self)).dump_json(self, indent=indent).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a record; raises StoreError naming the field that does not fit."""
        try:
            record = _adapter(cls).validate_json(text)
        except ValidationError as error:
            raise StoreError(f"not a {cls.__name__} record: {first_fault(error)}") from error
        expected = cls.__dataclass_fields__["schema_version"].default
        if record.schema_version != expected:
            raise StoreError(
                f"{cls.__name__} record has schema_version {record.schema_version}, this Secateur reads {expected}; "
                "use the version of Secateur that wrote it"
            )
        return record
