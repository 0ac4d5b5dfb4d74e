"""The corpus of bad input: `cases` are checked in, `large_cases` are built when asked for."""

import base64
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tests.corpus.large import large_rows
from tests.corpus.parts import Case

__all__ = ["Case", "cases", "large_cases"]

FOLDER = Path(__file__).parent


def cases() -> list[Case]:
    """The checked-in cases."""
    return list(_read())


def large_cases() -> Iterator[Case]:
    """The cases that are too large to check in, one at a time."""
    return large_rows()


@cache
def _read() -> tuple[Case, ...]:
    return tuple(_case(entry) for entry in json.loads((FOLDER / "manifest.json").read_bytes()))


def _case(entry: dict[str, Any]) -> Case:
    return Case(
        id=entry["id"],
        value=None if entry["file"] is None else (FOLDER / "files" / entry["file"]).read_bytes(),
        key=_bytes(entry["key"]),
        headers=tuple((name, _bytes(value)) for name, value in entry["headers"]),
        expected=entry["expected"],
        path=entry["path"],
        size=entry["size"],
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)
