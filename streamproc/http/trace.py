"""Names of a request: its id, and its place in a trace (W3C Trace Context, `traceparent`). Pure but for randomness."""

import random
import re

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def trace(traceparent: str) -> tuple[str, str]:
    """(trace id, the `traceparent` of what this request causes): in the caller's trace, or in a new one."""
    given = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    fresh = f"{random.getrandbits(192) | 1:048x}"  # tells requests apart, keeps no secret
    trace_id, flags = given.groups() if given else (fresh[16:], "00")
    return trace_id, f"00-{trace_id}-{fresh[:16]}-{flags}"


def request_id(given: str, trace_id: str) -> str:
    """The caller's request id where it is usable, else the trace id."""
    return given if given and _REQUEST_ID.fullmatch(given) else trace_id
