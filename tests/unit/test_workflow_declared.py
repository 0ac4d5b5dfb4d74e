"""What cannot be a workflow."""

from collections.abc import Callable
from typing import Any

import pytest

from streamproc import ConfigError, Leg, Parallel, Workflow


def do(_event: Any, _leg: Any) -> None:
    """No coroutine."""


async def fine(_event: Any, _leg: Any) -> None:
    """A coroutine."""


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Leg("", fine),
        lambda: Leg("a/b", fine),
        lambda: Leg("a", do),  # type: ignore[arg-type]
        lambda: Leg("a", fine, undo=do),  # type: ignore[arg-type]
        lambda: Leg("a", fine, timeout_s=0),
        lambda: Leg("a", fine, max_attempts=0),
        lambda: Leg("a", fine, max_attempts=-2),
        lambda: Workflow("w"),
        lambda: Workflow("w", Leg("a", fine), Parallel(Leg("b", fine), Leg("a", fine))),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_declared(declare: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        declare()
