"""What a function's return value or exception means for its records. Pure."""

import traceback
from collections.abc import Callable

from streamproc.core.engine import Outcome
from streamproc.model import Failure, Failures, Reject, RetryLater

STACK_FRAMES = 20
DELAY_MAX_S = 366 * 86_400
Mask = Callable[[str], str]


def checked(returned: object, mask: Mask) -> Outcome:
    """The outcome of a record that a function returned; a Failure where it is none."""
    if returned is None or isinstance(returned, Reject | RetryLater):
        return _sound(returned, mask)
    kind = type(returned).__name__
    return Failure("HandlerError", f"returned {kind}; a function returns nothing, Reject or RetryLater")


def checked_batch(returned: object, size: int, mask: Mask) -> dict[int, Outcome] | None:
    """The outcomes of a batch of `size` records by index, None when all went well."""
    if isinstance(returned, Failures):
        if all(0 <= index < size for index in returned.by_index):
            return {index: _named(ending, mask) for index, ending in returned.by_index.items()}
        found: Outcome = Failure("HandlerError", f"Failures names an index outside of the batch of {size}")
    else:
        found = checked(returned, mask)
    return None if found is None else dict.fromkeys(range(size), found)


def failure(error: BaseException, mask: Mask) -> Failure:
    """An exception as data, without secrets."""
    stack = "".join(traceback.format_exception(error, limit=-STACK_FRAMES))
    return Failure(type(error).__name__, mask(_text(error)), mask(stack))


def _named(ending: object, mask: Mask) -> Outcome:
    if isinstance(ending, BaseException):
        return failure(ending, mask)
    if isinstance(ending, Reject | RetryLater):
        return _sound(ending, mask)
    kind = type(ending).__name__
    return Failure("HandlerError", f"Failures holds a {kind}; expected Reject, RetryLater or an error")


def _sound(outcome: Reject | RetryLater | None, mask: Mask) -> Outcome:
    """The outcome with fields of the declared types; they end up in headers and timers, where others would fail."""
    if isinstance(outcome, Reject):
        return Reject(_text(outcome.reason), mask(_text(outcome.detail)))
    if isinstance(outcome, RetryLater):
        after_s: object = outcome.after_s
        if not (isinstance(after_s, int | float) and abs(after_s) <= DELAY_MAX_S):
            return Failure("HandlerError", f"RetryLater.after_s is {_text(after_s)[:64]}, not a number of seconds")
        return RetryLater(after_s, mask(_text(outcome.detail)))
    return None


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return "an error that cannot say what it is"
