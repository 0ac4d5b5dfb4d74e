import pytest

from streamproc.core.gate import Gate


@pytest.mark.parametrize("high", range(1, 9))
def test_every_state_and_every_level(high: int) -> None:
    """Open below the high mark; closed until it is back at the low mark, half of it."""
    low = high // 2
    for closed in (False, True):
        for level in range(2 * high + 2):
            gate = Gate(high)
            gate.closed = closed
            is_open = level <= low if closed else level < high
            assert gate.observe(level) is is_open
            assert gate.closed is not is_open


def test_it_does_not_flap() -> None:
    gate = Gate(10)
    seen = [gate.observe(level) for level in (0, 9, 10, 9, 8, 6, 5, 6, 9, 10, 11, 5)]
    assert seen == [True, True, False, False, False, False, True, True, True, False, False, True]


def test_a_mark_of_one_lets_one_in_at_a_time() -> None:
    gate = Gate(1)
    assert [gate.observe(level) for level in (0, 1, 0)] == [True, False, True]
