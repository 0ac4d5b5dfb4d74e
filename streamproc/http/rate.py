"""How often a caller may call: a token bucket per caller (one second's worth), of a bounded number of callers. Pure."""

from collections import OrderedDict

CALLERS_MAX = 10_000
"""Beyond these, those that have not called for longest are forgotten, and begin with a full bucket."""


class RateLimit:
    """At most `rate_per_s` calls a second per caller, in bursts of as many (of one at least)."""

    def __init__(self, rate_per_s: float) -> None:
        self._rate = rate_per_s
        self._burst = max(1.0, rate_per_s)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str, now: float) -> float:
        """0 where the caller may call now, which counts as a call; else the seconds until it may."""
        tokens, since = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - since) * self._rate)
        allowed = tokens >= 1
        self._buckets[caller] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > CALLERS_MAX:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self._rate
