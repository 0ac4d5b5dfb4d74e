"""How often a caller may call: bursts, refill, and a bounded memory of callers."""

import math

import pytest

from streamproc.http.rate import CALLERS_MAX, RateLimit

NOW = 1_800_000_000.0


def calls(limit: RateLimit, count: int, now: float, caller: str = "a") -> list[bool]:
    return [limit.wait_s(caller, now) == 0 for _ in range(count)]


@pytest.mark.parametrize(("rate", "burst"), [(1, 1), (5, 5), (2.5, 2), (0.1, 1), (1_000_000, 1_000)])
def test_a_burst_is_one_second_s_worth_and_one_at_least(rate: float, burst: int) -> None:
    assert calls(RateLimit(rate), burst, NOW) == [True] * burst
    limit = RateLimit(rate)
    taken = calls(limit, 20, NOW)
    assert sum(taken) == min(burst, 20)
    assert taken == sorted(taken, reverse=True)


@pytest.mark.parametrize("rate", [0.1, 1, 2.5, 50])
def test_who_waits_as_told_may_call_again_and_nobody_before(rate: float) -> None:
    limit = RateLimit(rate)
    calls(limit, math.ceil(rate) + 1, NOW)
    wait_s = limit.wait_s("a", NOW)
    assert 0 < wait_s <= 1 / rate
    assert limit.wait_s("a", NOW + wait_s * 0.9) == pytest.approx(wait_s * 0.1, rel=1e-3)
    assert limit.wait_s("a", NOW + wait_s + 1e-6) == 0


def test_over_time_no_more_than_the_rate_goes_through_however_often_one_tries() -> None:
    limit = RateLimit(10)
    taken = sum(calls(limit, 1, NOW + n / 1_000)[0] for n in range(10_000))
    assert 10 * 10 <= taken <= 10 * 10 + 10


def test_refused_calls_cost_nothing_and_rest_refills_no_more_than_a_burst() -> None:
    limit = RateLimit(2)
    assert calls(limit, 1_000, NOW).count(True) == 2
    assert calls(limit, 3, NOW + 0.5) == [True, False, False]
    assert calls(limit, 3, NOW + 1_000_000) == [True, True, False]


def test_callers_are_counted_each_for_itself() -> None:
    limit = RateLimit(1)
    assert [calls(limit, 2, NOW, caller) for caller in ("a", "b", "")] == [[True, False]] * 3


def test_a_clock_that_goes_back_gives_no_more_than_a_burst_and_refuses_nobody_for_ever() -> None:
    limit = RateLimit(2)
    assert calls(limit, 3, NOW) == [True, True, False]
    assert calls(limit, 3, NOW - 3_600) == [False] * 3
    assert 0 < limit.wait_s("a", NOW - 3_600) <= 0.5
    assert calls(limit, 1, NOW - 3_599.5) == [True]
    assert calls(limit, 10, NOW).count(True) == 2


def test_callers_that_have_not_called_for_longest_are_forgotten() -> None:
    limit = RateLimit(1)
    for number in range(CALLERS_MAX):
        assert limit.wait_s(str(number), NOW) == 0
    assert limit.wait_s("0", NOW) > 0  # which makes it the last to be forgotten
    for number in range(CALLERS_MAX, CALLERS_MAX + 100):
        assert limit.wait_s(str(number), NOW) == 0
    assert len(limit._buckets) == CALLERS_MAX
    assert limit.wait_s("0", NOW) > 0
    assert limit.wait_s("1", NOW) == 0
