"""Where a service is killed from inside, in the order it comes to these points, and what sets them around its calls."""

import os
import signal
from collections.abc import Callable
from typing import Any

REQUEST = (
    "before the row",
    "row and event written, not answered",
    "taken from the outbox, not published",
    "published, not removed from the outbox",
    "removed from the outbox",
    "before the mail is claimed",
    "claimed, not mailed",
    "mailed, not recorded",
    "recorded, not settled",
)
ORDER = (
    "before validate's effect",
    "accepted and recorded",
    "before the charge",
    "charged, not recorded",
    "payment recorded",
    "before stock is taken",
    "stock taken, with its leg",
    "both legs done, before confirmation",
    "confirmation sent, not recorded",
    "confirmation recorded, not settled",
)
SHORT = (
    "charged, not recorded",
    "rejection recorded, nothing undone",
    "before the refund",
    "refunded, not recorded",
    "undone recorded, dead letter not sent",
)
DECLINED = (
    "stock taken, with its leg",
    "rejection recorded, nothing undone",
    "before stock is given back",
    "given back, with its leg, dead letter not sent",
)
SCHEDULE = (
    "before the claim",
    "claimed, row and event, not published",
    "published, not removed from the outbox",
    "running recorded, function not called",
    "line written, its leg not recorded",
    "function done, firing not recorded",
    "firing recorded, record not settled",
)
PICTURE = (
    "before the upload is put",
    "put, event not emitted",
    "event on the stream, before the resize",
    "resized, before the result is put",
    "result put, not settled",
)
IN_THE_PUT = "in the middle of the put"
KNOWN = frozenset((*REQUEST, *ORDER, *SHORT, *DECLINED, *SCHEDULE, *PICTURE, IN_THE_PUT))

Around = tuple[str, str] | Callable[..., tuple[str, str]]
"""The points before and after a call, "" for none; they may depend on its arguments."""


def reach(point: str) -> None:
    """Dies here if this is the point."""
    assert point in KNOWN or not point
    if point and os.environ["CRASH_AT"] == point:
        os.kill(os.getpid(), signal.SIGKILL)


class Wrapped:
    """A store or another port, with points around some of its calls."""

    def __init__(self, inner: Any, **calls: Around) -> None:
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        around = self._calls.get(name)
        if around is None:
            return found

        async def with_points(*arguments: Any, **named: Any) -> Any:
            before, after = around(*arguments) if callable(around) else around
            reach(before)
            result = await found(*arguments, **named)
            reach(after)
            return result

        return with_points
