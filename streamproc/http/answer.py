"""What a function for requests takes and gives: bodies, and answers with their status."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, dataclass_transform

import msgspec

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Base of typed request bodies: camelCase in JSON, snake_case here; fields that are not declared are refused."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of typed answers: camelCase in JSON. A function that returns one answers 200 with it."""


@dataclass(frozen=True, slots=True)
class Created(Generic[T]):
    """201, with the address of what is new."""

    value: T
    location: str


@dataclass(frozen=True, slots=True)
class Accepted(Generic[T]):
    """202: what was asked for will be done."""

    value: T


@dataclass(frozen=True, slots=True)
class NoContent:
    """204."""


@dataclass(frozen=True, slots=True)
class Content:
    """200, with bytes that are no JSON, as in `Content(data, "image/jpeg")`. Browsers must believe the type."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as JSON, `{"error": ..., "fields": {...}}`; `fields` says what is wrong with which."""

    status: int
    error: str
    fields: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The body."""
        return {"error": self.error, "fields": self.fields} if self.fields else {"error": self.error}
