from typing import Any

import pytest

from streamproc import Failures, Reject, RetryLater
from streamproc.model import Failure
from streamproc.stream.outcome import checked, checked_batch, failure


def plain(text: str) -> str:
    return text


@pytest.mark.parametrize("returned", [None, Reject("bad", "why"), RetryLater(5.0, "busy"), RetryLater(-1)])
def test_what_a_function_may_return(returned: Any) -> None:
    assert checked(returned, str) == returned


@pytest.mark.parametrize("returned", [0, True, "done", [], {}, {"batchItemFailures": []}, object(), ValueError("no")])
def test_what_it_may_not_return_is_a_failure_that_names_it(returned: object) -> None:
    found = checked(returned, str)
    assert isinstance(found, Failure)
    assert found.error == "HandlerError"
    assert type(returned).__name__ in found.message


@pytest.mark.parametrize(("reason", "detail"), [(None, ValueError("text")), (404, b"bytes"), (ValueError("x"), {})])
def test_a_rejection_is_put_into_words(reason: Any, detail: Any) -> None:
    """Its fields become headers; what was no text there used to stop the partition for ever."""
    assert checked(Reject(reason, detail), str) == Reject(str(reason), str(detail))


@pytest.mark.parametrize("after_s", [float("nan"), float("inf"), -float("inf"), "5", None, 10**400, [], 1e12])
def test_a_delay_that_is_no_number_of_seconds_is_a_failure(after_s: Any) -> None:
    found = checked(RetryLater(after_s), str)
    assert isinstance(found, Failure)
    assert "after_s" in found.message


def test_a_batch_is_all_well_or_named_record_by_record() -> None:
    assert checked_batch(None, 3, plain) is None
    found = checked_batch(Failures({0: Reject("bad"), 2: ValueError("no")}), 3, plain)
    assert found is not None
    assert found[0] == Reject("bad")
    assert set(found) == {0, 2}
    assert isinstance(found[2], Failure)
    assert found[2].error == "ValueError"


def test_one_outcome_of_a_batch_is_that_of_all_its_records() -> None:
    assert checked_batch(RetryLater(5), 2, plain) == {0: RetryLater(5), 1: RetryLater(5)}
    found = checked_batch("done", 2, plain)
    assert found is not None
    assert set(found) == {0, 1}


@pytest.mark.parametrize("index", [-1, 3, 10**9])
def test_an_index_outside_of_the_batch_fails_all_of_it(index: int) -> None:
    found = checked_batch(Failures({index: ValueError("no")}), 3, plain)
    assert found is not None
    assert all(isinstance(one, Failure) and "outside" in one.message for one in found.values())
    assert set(found) == {0, 1, 2}


@pytest.mark.parametrize("ending", [None, "bad", ValueError, 3])
def test_what_failures_hold_must_say_what_went_wrong(ending: Any) -> None:
    found = checked_batch(Failures({0: ending}), 1, plain)
    assert found is not None
    assert isinstance(found[0], Failure)
    assert "Failures holds" in found[0].message


def test_a_failure_is_masked_and_its_stack_is_short() -> None:
    def deeper(depth: int) -> None:
        if depth:
            deeper(depth - 1)
        raise ValueError("the password is secret")

    with pytest.raises(ValueError, match="secret") as caught:
        deeper(100)
    found = failure(caught.value, lambda text: text.replace("secret", "***"))
    assert found.message == "the password is ***"
    assert "secret" not in found.stacktrace.replace('ValueError("the password is secret")', "")
    assert found.stacktrace.count("in deeper") <= 20


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_that_cannot_say_what_it_is() -> None:
    found = failure(Mute(), plain)
    assert (found.error, found.message) == ("Mute", "an error that cannot say what it is")


def test_secrets_are_masked_in_what_a_function_says() -> None:
    def mask(text: str) -> str:
        return text.replace("hunter2", "***")

    assert checked(Reject("bad", "hunter2"), mask) == Reject("bad", "***")
    assert checked(RetryLater(1, "hunter2"), mask) == RetryLater(1, "***")
