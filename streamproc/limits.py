"""What the numbers among a function's options may be."""

from collections.abc import Mapping
from math import inf
from types import MappingProxyType
from typing import Any

from streamproc.errors import ConfigError

Limits = Mapping[str, tuple[float, float]]

STREAM_LIMITS: Limits = MappingProxyType(
    {
        "batch_size": (1, 10_000),
        "batch_window_s": (0, 300),
        "concurrency": (1, 10_000),
        "timeout_s": (0.1, 86_400),
        "max_retry_attempts": (-1, 10_000),
        "max_record_age_s": (-1, 604_800),
        "backoff_s": (0, 3_600),
        "backoff_max_s": (0, 86_400),
    }
)
HTTP_LIMITS: Limits = MappingProxyType(
    {
        "body_bytes_max": (0, 1_073_741_824),
        "concurrency": (1, 100_000),
        "timeout_s": (0.1, 3_600),
        "rate_per_s": (0, 1_000_000),
    }
)


_WHOLE = frozenset({"batch_size", "concurrency", "max_retry_attempts", "body_bytes_max"})


def check_limits(function: Any, limits: Limits) -> None:
    """Raises ConfigError for the first option of a function, of those it has, that cannot be."""
    for option, (low, high) in limits.items():
        value = getattr(function, option, None)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int if option in _WHOLE else int | float):
            raise ConfigError(f"{function.name}: {option}={value!r} is no {'whole ' * (option in _WHOLE)}number")
        if not low <= value <= high:
            raise ConfigError(f"{function.name}: {option}={value} is outside {low:g} to {high:g}")
    if getattr(function, "backoff_s", 0) > getattr(function, "backoff_max_s", inf):
        raise ConfigError(
            f"{function.name}: backoff_s={function.backoff_s:g} is above backoff_max_s={function.backoff_max_s:g}"
        )
