"""Back-pressure, and how partitions are given up."""

from streamproc.core.engine import Engine
from streamproc.core.plan import Limits, Routed
from streamproc.model import Reject, RetryLater
from tests.unit.core.build import P0, P1, batch, engine, plan, poisoned, routed


def blocked(made: Engine) -> str:
    return made.snapshot().partitions[0].blocked


def settle(made: Engine, count: int) -> None:
    for _ in range(count):
        made.functions[0].lanes.finish(made.functions[0].lanes.take())


def test_a_partition_with_too_many_records_waits_until_half_are_settled() -> None:
    made = engine(limits=Limits(partition_records=4))
    made.admit(routed(batch(range(3))), 0.0)
    assert made.wanted() == [P0]
    made.admit(routed(batch(range(3, 6))), 0.0)
    assert (made.wanted(), blocked(made)) == ([], "records")
    settle(made, 3)
    assert made.wanted() == []
    settle(made, 1)
    assert made.wanted() == [P0]


def test_bytes_are_counted_over_all_partitions() -> None:
    made = engine(limits=Limits(total_bytes=100))
    made.assign({P0: 0, P1: 0})
    made.admit(routed(batch([0], nbytes=60)), 0.0)
    assert made.room() == 40
    made.admit(routed(batch([0], partition=P1, nbytes=60)), 0.0)
    assert made.room() == 1
    assert made.wanted() == []
    assert made.snapshot().in_flight_bytes == 120
    settle(made, 1)
    assert made.wanted() == []
    settle(made, 1)
    assert made.wanted() == [P0, P1]


def test_a_partition_is_not_read_far_beyond_its_oldest_record() -> None:
    made = engine(limits=Limits(span=100))
    made.admit(routed(batch([0])), 0.0)
    made.admit(routed(batch([99], start=1)), 0.0)
    assert (made.wanted(), blocked(made)) == ([], "span")
    settle(made, 1)
    assert made.wanted() == [P0]


def test_other_partitions_go_on() -> None:
    made = engine(limits=Limits(partition_records=1))
    made.assign({P0: 0, P1: 0})
    made.admit(routed(batch([0])), 0.0)
    assert made.wanted() == [P1]


def test_a_drain_drops_what_has_not_begun() -> None:
    made = engine()
    made.admit(routed(batch(range(5))), 0.0)
    function = made.functions[0]
    first = function.lanes.take()
    made.drain([P0])
    assert (function.ready(0.0), made.draining([P0], 0.0), made.wanted()) == (0, True, [])
    function.lanes.finish(first)
    assert not made.draining([P0], 0.0)
    assert made.commits() == {P0: 1}


def test_a_drain_waits_for_what_stands_before_something_finished() -> None:
    made = engine()
    made.admit(routed(batch(range(5))), 0.0)
    function = made.functions[0]
    works = [function.lanes.take() for _ in range(3)]
    function.lanes.finish(works[2])
    made.drain([P0])
    assert function.ready(0.0) == 0
    for work in works[:2]:
        function.lanes.finish(work)
    assert made.commits() == {P0: 3}


def test_a_drain_takes_nothing_in() -> None:
    """A poll that is under way when it begins still returns; its records would overtake what was dropped."""
    made = engine(plan(lambda offset: "k"))
    made.admit(routed(batch(range(3))), 0.0)
    made.drain([P0])
    assert not made.takes(batch(range(3, 6)))
    assert made.functions[0].ready(0.0) == 0
    assert not made.draining([P0], 0.0)


def test_a_drain_waits_for_records_before_a_dead_letter() -> None:
    made = engine()
    made.admit(routed(batch(range(3))), 0.0)
    function = made.functions[0]
    works = [function.lanes.take() for _ in range(2)]
    made.report(function, works[0], RetryLater(5.0), 0.0)
    made.report(function, works[1], Reject("bad"), 0.0)
    made.drain([P0])
    made.sent(made.due(0.0, 9).letters)
    assert made.draining([P0], 5.0)
    made.due(5.0, 9)
    settle(made, 1)
    assert made.commits() == {P0: 2}


def test_a_drain_forgets_poison_behind_what_it_waits_for() -> None:
    """Nobody has worked for it; it is found again."""
    made = engine()
    made.admit(routed(batch([0])), 0.0)
    made.admit(Routed(poisoned(batch([100], start=1)), (), poison=[0]), 0.0)
    made.drain([P0])
    assert not made.draining([P0], 0.0)
    assert made.due(0.0, 9).letters == []


def test_a_drain_waits_for_what_only_one_of_two_functions_has_finished() -> None:
    made = engine(plan(name="one"), plan(name="two"))
    made.admit(routed(batch(range(2)), 0, 1), 0.0)
    settle(made, 1)
    made.drain([P0])
    assert made.functions[0].ready(0.0) == 0
    other = made.functions[1]
    assert other.ready(0.0) == 1
    other.lanes.finish(other.lanes.take())
    assert made.commits() == {P0: 1}


def test_a_drain_does_not_wait_for_a_window() -> None:
    made = engine(plan(name="one"), plan(name="two", batch_size=10, batch_window_s=300.0))
    made.admit(routed(batch([0, 1]), 0, 1), 1_000.0)
    settle(made, 2)
    assert made.functions[1].ready(1_000.0) == 0
    made.drain([P0])
    assert made.functions[1].ready(1_000.0) == 1


def test_nothing_begins_after_the_drain() -> None:
    """What is finished is being committed then; a record finished meanwhile would come again."""
    made = engine()
    made.admit(routed(batch(range(2))), 0.0)
    function = made.functions[0]
    works = [function.lanes.take() for _ in range(2)]
    made.report(function, works[1], Reject("bad"), 0.0)
    made.refused(made.due(0.0, 9).letters, "down", 0.0)
    made.report(function, works[0], RetryLater(5.0), 0.0)
    made.drain([P0])
    assert not made.draining([P0], 1.0)
    made.cease([P0])
    assert made.due(100.0, 9).letters == []
    assert function.ready(100.0) == 0


def test_draining_asks_only_for_its_own_partitions() -> None:
    made = engine()
    made.admit(routed(batch([0])), 0.0)
    assert made.draining([P0], 0.0)
    assert not made.draining([P1], 0.0)


def test_parked_records_count_for_a_drain_when_they_are_due_in_time() -> None:
    made = engine()
    made.admit(routed(batch(range(2))), 0.0)
    function = made.functions[0]
    first = function.lanes.take()
    function.lanes.finish(function.lanes.take())
    made.report(function, first, RetryLater(5.0), 0.0)
    made.drain([P0])
    assert (made.draining([P0], 4.9), made.draining([P0], 5.0)) == (False, True)
