"""Replaces one thing in the running program, and puts it back."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def instead(owner: type | ModuleType, name: str, broken: Any) -> Iterator[None]:
    """Replaces a method of a class, or a function of a module."""
    sound = owner.__dict__[name]
    setattr(owner, name, broken)
    try:
        yield
    finally:
        setattr(owner, name, sound)
