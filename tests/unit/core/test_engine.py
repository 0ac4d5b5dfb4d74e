import pytest

from streamproc.adapters.memory import StoredRecord
from streamproc.core.batcher import Batch
from streamproc.core.engine import Engine
from streamproc.core.lanes import Work
from streamproc.core.plan import Limits, Routed
from streamproc.core.retry import Retry
from streamproc.model import Failure, PartitionStopped, RecordBatch, Reject, RetryLater, TopicPartition
from tests.unit.core.build import P0, P1, batch, engine, plan, poisoned, routed

BROKEN = Failure("ValueError", "no")


def take(made: Engine, number: int = 0) -> Work:
    return made.functions[number].lanes.take()


def take_batch(made: Engine, now: float = 0.0) -> Batch:
    found = made.functions[0].batcher.take(now)
    assert found is not None
    return found


def test_a_record_that_is_handled_may_be_committed() -> None:
    made = engine()
    made.admit(routed(batch([0, 1])), 0.0)
    function = made.functions[0]
    function.lanes.finish(take(made))
    made.report(function, take(made), None, 0.0)
    assert made.commits() == {P0: 2}
    made.committed({P0: 2})
    assert made.commits() == {}
    assert made.snapshot().records["events", "thing", "ok"] == 2


def test_commits_are_due_once_an_interval() -> None:
    made = engine(limits=Limits(commit_interval_s=10.0))
    made.admit(routed(batch([0])), 0.0)
    assert made.due(0.0, 9).wake_at == 10.0
    made.functions[0].lanes.finish(take(made))
    assert made.due(9.0, 9).commits == {}
    assert made.due(10.0, 9).commits == {P0: 1}
    assert made.due(20.0, 9).commits == {P0: 1}


def test_a_failure_parks_the_record_until_its_retry() -> None:
    made = engine()
    made.admit(routed(batch([0])), 0.0)
    work = take(made)
    made.report(made.functions[0], work, BROKEN, 0.0)
    assert made.due(0.0, 9).wake_at == 0.5
    assert made.functions[0].ready(0.0) == 0
    made.due(0.5, 9)
    assert take(made) is work
    assert (work.attempt, work.since) == (2, 0.0)
    assert made.snapshot().records["events", "thing", "retried"] == 1


def test_retry_later_says_itself_when() -> None:
    made = engine()
    made.admit(routed(batch([0])), 100.0)
    made.report(made.functions[0], take(made), RetryLater(7.0), 100.0)
    assert made.functions[0].wake_at() == 107.0


def test_a_rejected_record_settles_when_its_dead_letter_is_acknowledged() -> None:
    made = engine()
    made.admit(routed(batch([0])), 100.0)
    made.report(made.functions[0], take(made), Reject("no_stock", "none left"), 100.0)
    (letter,) = made.due(100.0, 9).letters
    assert (letter.condition, letter.function, letter.attempts, letter.since) == ("no_stock", "take", 1, 100.0)
    assert (letter.failure.error, letter.failure.message) == ("Reject", "none left")
    assert made.commits() == {}
    made.sent([letter])
    assert made.commits() == {P0: 1}
    assert made.snapshot().dead_letters == {"no_stock": 1}
    assert made.snapshot().records["events", "thing", "dead_lettered"] == 1


def test_a_refused_dead_letter_keeps_its_record_and_blocks_its_partition() -> None:
    made = engine()
    made.admit(routed(batch([0])), 0.0)
    made.report(made.functions[0], take(made), Reject("bad"), 0.0)
    for number in range(3):
        assert made.wanted() == [P0]
        made.refused(made.due(number * 60.0, 9).letters, "down", number * 60.0)
    assert (made.wanted(), made.commits()) == ([], {})
    assert made.snapshot().partitions[0].blocked == "dead_letters_refused"
    made.sent(made.due(300.0, 9).letters)
    assert (made.wanted(), made.commits()) == ([P0], {P0: 1})


@pytest.mark.parametrize(
    ("retry", "condition"),
    [(Retry(attempts_max=0), "RetryAttemptsExhausted"), (Retry(age_max_s=60.0), "MaximumRecordAgeExceeded")],
)
def test_what_has_failed_too_often_or_is_too_old_is_dead(retry: Retry, condition: str) -> None:
    made = engine(plan(retry=retry), wall=100.0)
    made.admit(routed(batch([0])), 100.0)
    made.report(made.functions[0], take(made), BROKEN, 100.0)
    (letter,) = made.due(100.0, 9).letters
    assert (letter.condition, letter.failure) == (condition, BROKEN)


def test_poison_is_dead_without_a_call() -> None:
    made = engine()
    made.admit(Routed(poisoned(batch([0])), (), poison=[0]), 5.0)
    (letter,) = made.due(5.0, 9).letters
    assert (letter.condition, letter.function, letter.attempts) == ("json", "", 0)
    made.sent([letter])
    assert made.commits() == {P0: 1}
    assert made.snapshot().records["events", "other", "dead_lettered"] == 1


def test_what_a_rule_lets_pass_is_settled_and_counted() -> None:
    made = engine()
    made.admit(Routed(poisoned(batch([0, 1])), (), ignored={0: "other", 1: "other"}), 0.0)
    assert made.commits() == {P0: 2}
    assert made.snapshot().records["events", "other", "skipped"] == 2


def test_a_record_of_two_functions_settles_with_the_second() -> None:
    made = engine(plan(name="one"), plan(name="two"))
    made.admit(routed(batch([0]), 0, 1), 0.0)
    made.functions[0].lanes.finish(take(made, 0))
    assert made.commits() == {}
    made.functions[1].lanes.finish(take(made, 1))
    assert made.commits() == {P0: 1}


def test_two_functions_may_both_bury_a_record() -> None:
    made = engine(plan(name="one"), plan(name="two"))
    made.admit(routed(batch([0]), 0, 1), 0.0)
    for number in (0, 1):
        made.report(made.functions[number], take(made, number), Reject("bad"), 0.0)
    letters = made.due(0.0, 9).letters
    made.sent(letters[:1])
    assert made.commits() == {}
    made.sent(letters[1:])
    assert made.commits() == {P0: 1}


def test_a_batch_settles_as_a_whole() -> None:
    made = engine(plan(batch_size=10))
    made.admit(routed(batch(range(5))), 0.0)
    made.report_batch(made.functions[0], take_batch(made), None, 0.0)
    assert made.commits() == {P0: 5}
    assert made.snapshot().records["events", "thing", "ok"] == 5


def test_a_failed_record_of_a_batch_holds_back_the_later_ones_of_its_key() -> None:
    made = engine(plan(lambda offset: offset % 2, batch_size=10))
    made.admit(routed(batch(range(5))), 0.0)
    made.report_batch(made.functions[0], take_batch(made), {0: BROKEN, 2: Reject("bad")}, 0.0)
    assert made.snapshot().in_flight_records == 3
    assert made.due(0.4, 9).letters == []
    made.due(0.5, 9)
    again = take_batch(made, 0.5)
    assert [work.offset for work in again.retried] == [0, 2, 4]
    assert [work.attempt for work in again.retried] == [2, 1, 1]
    made.report_batch(made.functions[0], again, {1: Reject("bad")}, 0.5)
    (letter,) = made.due(0.5, 9).letters
    assert letter.offset == 2
    made.sent([letter])
    assert made.commits() == {P0: 5}


def test_what_comes_in_for_a_revoked_partition_changes_nothing() -> None:
    made = engine(plan(batch_size=None), plan(batch_size=10, name="many"))
    made.admit(routed(batch([0, 1]), 0, 1), 0.0)
    one, other = take(made), take(made)
    many = made.functions[1].batcher.take(0.0)
    assert many is not None
    made.revoke([P0])
    made.functions[0].lanes.finish(one)
    made.report(made.functions[0], other, BROKEN, 0.0)
    made.report_batch(made.functions[1], many, {0: Reject("bad")}, 0.0)
    made.committed({P0: 2})
    assert not made.takes(batch([2]))
    assert made.reread(P0) is None
    due = made.due(100.0, 9)
    assert (due.letters, due.commits, made.wanted()) == ([], {}, [])
    assert made.snapshot().in_flight_records == 0


def test_a_dead_letter_of_an_old_epoch_settles_nothing_in_the_new_one() -> None:
    made = engine()
    made.admit(routed(batch([0])), 0.0)
    made.report(made.functions[0], take(made), Reject("bad"), 0.0)
    letters = made.due(0.0, 9).letters
    made.assign({P0: 0})
    made.admit(routed(batch([0])), 0.0)
    made.sent(letters)
    made.refused(letters, "late", 0.0)
    assert made.commits() == {}
    assert made.due(100.0, 9).letters == []


def test_an_assignment_begins_a_new_epoch() -> None:
    made = engine()
    made.admit(routed(batch([0, 1])), 0.0)
    made.assign({P0: 1, P1: 7})
    snapshot = {one.partition: one for one in made.snapshot().partitions}
    assert (snapshot[P0].epoch, snapshot[P0].admitted, snapshot[P0].unsettled) == (2, 1, 0)
    assert snapshot[P1].committed == 7


@pytest.mark.parametrize(
    "other",
    [
        batch([0, 1]),
        batch([0, 1, 2]),
        batch([1, 2, 3]),
        batch([4]),
        batch([4], start=2),
        batch([], start=4, next_offset=9),
    ],
    ids=["part of it again", "again", "overlapping", "a gap", "too early", "a gap without records"],
)
def test_a_batch_that_does_not_start_where_its_partition_stands_is_read_again(other: RecordBatch) -> None:
    made = engine()
    made.admit(routed(batch([0, 1, 2])), 0.0)
    assert not made.takes(other)
    with pytest.raises(AssertionError, match="read from"):
        made.admit(routed(other), 0.0)
    assert made.reread(P0) == 3
    assert (made.snapshot().in_flight_records, made.snapshot().rereads) == (3, 1)
    assert made.takes(batch([7], start=3))


def test_a_partition_that_is_given_up_takes_nothing() -> None:
    """Its records come again to the next owner: they are not read again here."""
    made = engine()
    made.drain([P0])
    assert not made.takes(batch([0]))
    assert (made.reread(P0), made.snapshot().rereads) == (None, 0)


GONE = PartitionStopped(P0, "offset_out_of_range", "gone")


def test_a_stopped_partition_is_asked_for_again_half_a_minute_later() -> None:
    made = engine()
    made.assign({P0: 3, P1: 0})
    assert made.stop(GONE, 100.0)
    assert not made.stop(PartitionStopped(TopicPartition("events", 2), "offset_out_of_range", "not ours"), 100.0)
    assert (made.wanted(), made.to_ask_again(129.0)) == ([P1], {})
    assert made.to_ask_again(130.0) == {P0: 3}
    assert made.wanted() == [P0, P1]
    assert made.snapshot().partitions[0].blocked == "offset_out_of_range"
    assert not made.stop(GONE, 131.0), "nothing new to tell"
    assert made.wanted() == [P1]
    assert made.to_ask_again(161.0) == {P0: 3}


@pytest.mark.parametrize("sign", ["a batch", "silence"])
def test_a_stop_ends_with_a_batch_or_when_nothing_is_heard_for_a_while(sign: str) -> None:
    made = engine()
    made.stop(GONE, 100.0)
    made.to_ask_again(130.0)
    if sign == "a batch":
        made.admit(routed(batch([0])), 131.0)
    else:
        assert made.to_ask_again(134.9) == {}
        assert made.snapshot().partitions[0].blocked == "offset_out_of_range"
        made.to_ask_again(135.0)
    assert (made.wanted(), made.snapshot().partitions[0].blocked) == ([P0], "")
    assert made.stop(GONE, 200.0)


def test_a_stop_ends_with_the_assignment() -> None:
    made = engine()
    made.stop(GONE, 100.0)
    made.assign({P0: 0, P1: 0})
    assert made.wanted() == [P0, P1]
    assert made.to_ask_again(1_000.0) == {}


def test_a_record_is_as_old_as_the_wall_clock_says() -> None:
    """Its timestamp was taken from a clock that may be set; the engine's own never goes backwards."""
    made = engine(plan(retry=Retry(age_max_s=60.0)), wall=59.0)
    made.admit(routed(batch([0])), 1_000.0)
    made.report(made.functions[0], take(made), BROKEN, 1_000.0)
    assert made.snapshot().records["events", "thing", "retried"] == 1


def test_due_does_not_ask_to_be_woken_for_what_waits_for_a_worker() -> None:
    """Or it would be asked again and again while all workers are busy."""
    made = engine(plan(batch_size=10, batch_window_s=1.0), limits=Limits(commit_interval_s=60.0))
    made.due(100.0, 9)
    made.admit(routed(batch([0])), 100.0)
    assert made.due(100.0, 9).wake_at == 101.0
    assert made.due(105.0, 9).wake_at == 160.0


@pytest.mark.parametrize("stamp", [None, -1])
def test_a_record_without_a_time_ages_from_when_it_was_read(stamp: int | None) -> None:
    made = engine(plan(retry=Retry(age_max_s=60.0)))
    raw = RecordBatch(P0, [StoredRecord(0, stamp, b"k", b"v")], start=0, next_offset=1, nbytes=0)  # type: ignore[arg-type]
    made.admit(routed(raw), 1_700_000_000.0)
    made.report(made.functions[0], take(made), BROKEN, 1_700_000_059.0)
    assert made.snapshot().records["events", "thing", "retried"] == 1
    made.due(1_700_000_070.0, 9)
    made.report(made.functions[0], take(made), BROKEN, 1_700_000_070.0)
    (letter,) = made.due(1_700_000_070.0, 9).letters
    assert letter.condition == "MaximumRecordAgeExceeded"
