"""What a type takes, in words for people."""

from typing import Any

from msgspec import inspect


def expected(hint: Any) -> str:
    """As in `a whole number >= 1`, for a message that must not quote what was given instead."""
    return _of_kind(inspect.type_info(hint))


def _of_kind(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            return _of_kind(kind.type)
        case inspect.LiteralType():
            return "one of " + ", ".join(map(str, kind.values))
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            signs = {">": kind.gt, ">=": kind.ge, "<": kind.lt, "<=": kind.le}
            limits = [f"{sign} {limit}" for sign, limit in signs.items() if limit is not None]
            return " ".join([noun, " and ".join(limits)]).rstrip()
        case inspect.StrType() | inspect.ListType():
            noun = "text" if isinstance(kind, inspect.StrType) else "a list"
            return noun + (", not empty" if kind.min_length else "")
        case inspect.DateTimeType():
            return "a time such as 2026-01-31T12:00:00Z"
        case inspect.UnionType():
            return " or ".join(_of_kind(one) for one in kind.types if not isinstance(one, inspect.NoneType))
        case _:
            return "a table"
