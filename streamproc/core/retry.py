"""What becomes of a failure: try again after a while, or give up.

Delays grow exponentially and are drawn with full jitter, `uniform(0, min(cap, base * 2**(attempt - 1)))`, so that
calls that failed together do not come back together (M. Brooker, "Exponential Backoff And Jitter", AWS, 2015).
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry policy. Times in seconds; `attempts_max` counts retries after the first call; -1 means no limit."""

    attempts_max: int = 10
    age_max_s: float = -1.0
    base_s: float = 0.1
    cap_s: float = 30.0


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Call again after so many seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The record becomes a dead letter under this condition (Lambda's words)."""

    condition: str


def decide(policy: Retry, attempt: int, *, age_s: float, draw: Callable[[], float]) -> RetryAfter | GiveUp:
    """After failed call number `attempt` (from 1) of a record that is `age_s` seconds old.

    `draw` returns a number from [0, 1).
    """
    if 0 <= policy.attempts_max < attempt:
        return GiveUp("RetryAttemptsExhausted")
    if 0 <= policy.age_max_s < age_s:
        return GiveUp("MaximumRecordAgeExceeded")
    ceiling = min(policy.cap_s, policy.base_s * 2.0 ** min(attempt - 1, 60))
    return RetryAfter(ceiling * draw())
