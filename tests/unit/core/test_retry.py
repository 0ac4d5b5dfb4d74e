import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.retry import GiveUp, Retry, RetryAfter, decide

POLICIES = st.builds(
    Retry,
    attempts_max=st.integers(-1, 10_000),
    age_max_s=st.just(-1.0) | st.floats(60, 604_800),
    base_s=st.floats(0, 3_600),
    cap_s=st.floats(0, 86_400),
)


@given(POLICIES, st.integers(1, 20_000), st.floats(-1e9, 1e9), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_within_its_bounds(policy: Retry, attempt: int, age_s: float, drawn: float) -> None:
    verdict = decide(policy, attempt, age_s=age_s, draw=lambda: drawn)
    exhausted = 0 <= policy.attempts_max < attempt
    too_old = 0 <= policy.age_max_s < age_s
    if isinstance(verdict, GiveUp):
        assert verdict.condition == ("RetryAttemptsExhausted" if exhausted else "MaximumRecordAgeExceeded")
        assert exhausted or too_old
        return
    assert not exhausted
    assert not too_old
    assert isinstance(verdict, RetryAfter)
    assert 0 <= verdict.delay_s <= policy.cap_s
    assert math.isfinite(verdict.delay_s)


@given(st.floats(0.001, 10), st.floats(0.001, 1_000), st.integers(1, 5_000))
def test_the_ceiling_doubles_until_the_cap(base_s: float, cap_s: float, attempt: int) -> None:
    def ceiling(number: int) -> float:
        verdict = decide(Retry(-1, -1.0, base_s, cap_s), number, age_s=0, draw=lambda: 1.0)
        assert isinstance(verdict, RetryAfter)
        return verdict.delay_s

    assert ceiling(attempt) == min(cap_s, base_s * 2.0 ** min(attempt - 1, 60))
    assert ceiling(attempt) <= ceiling(attempt + 1) <= 2 * ceiling(attempt)


@pytest.mark.parametrize(("retries", "calls"), [(0, 1), (1, 2), (10, 11)])
def test_retries_come_after_the_first_call(retries: int, calls: int) -> None:
    policy = Retry(attempts_max=retries)
    verdicts = [decide(policy, attempt, age_s=0, draw=lambda: 0.5) for attempt in range(1, calls + 1)]
    assert all(isinstance(verdict, RetryAfter) for verdict in verdicts[:-1])
    assert verdicts[-1] == GiveUp("RetryAttemptsExhausted")


def test_without_a_limit_it_never_gives_up() -> None:
    assert isinstance(decide(Retry(attempts_max=-1), 10**9, age_s=10**9, draw=lambda: 0.5), RetryAfter)


def test_a_record_that_is_too_old_is_given_up() -> None:
    policy = Retry(age_max_s=60.0)
    assert isinstance(decide(policy, 1, age_s=60.0, draw=lambda: 0.5), RetryAfter)
    assert decide(policy, 1, age_s=60.1, draw=lambda: 0.5) == GiveUp("MaximumRecordAgeExceeded")
