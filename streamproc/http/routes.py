"""Which function answers a request: method and path -> route. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What answers a path, by method, and the values of its parameters."""

    by_method: Mapping[str, T]
    values: Mapping[str, str]

    @property
    def allow(self) -> str:
        """The header `Allow`."""
        methods = set(self.by_method) | ({"HEAD"} if "GET" in self.by_method else set())
        return ", ".join(sorted(methods))


class Routes(Generic[T]):
    """Routes by path: those without parameters come first, those that take the rest of a path last.

    Otherwise the order of the list decides.
    """

    def __init__(self, routes: Sequence[tuple[str, str, T]]) -> None:
        """From (method, path, route)."""
        by_path: dict[str, dict[str, T]] = {}
        for method, path, route in routes:
            by_path.setdefault(path, {})[method] = route
        self._fixed = {path: Found(methods, {}) for path, methods in by_path.items() if "{" not in path}
        patterns = sorted((path for path in by_path if "{" in path), key=_takes_rest)
        self._patterns = [(_pattern(path), by_path[path]) for path in patterns]

    def find(self, path: str) -> Found[T] | None:
        """What answers a path, percent-decoded; None when nothing does."""
        found = self._fixed.get(path)
        if found is not None:
            return found
        for pattern, methods in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                return Found(methods, match.groupdict())
        return None


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("".join(map(_part, re.split(r"({[\w:]+})", path))), re.DOTALL)


def _part(part: str) -> str:
    if not part.startswith("{"):
        return re.escape(part)
    return f"(?P<{part[1:-6]}>.+)" if _takes_rest(part) else f"(?P<{part[1:-1]}>[^/]+)"


def _takes_rest(path: str) -> bool:
    return path.endswith(":path}")
