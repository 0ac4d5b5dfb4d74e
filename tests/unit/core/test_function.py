import pytest

from streamproc.core.function import Function
from streamproc.core.lanes import Work
from tests.unit.core.build import P0, P1, entry, plan


def admitted(count: int = 2, *, batch_size: int | None = None, batch_window_s: float = 0.0) -> Function:
    function = Function(plan(batch_size=batch_size, batch_window_s=batch_window_s))
    function.admit(entry(range(count)), range(count), 10.0)
    return function


def test_without_a_batch_size_each_ready_record_is_a_call() -> None:
    function = admitted(3)
    assert function.ready(10.0) == 3
    function.lanes.take()
    assert function.ready(10.0) == 2


def test_with_a_batch_size_there_is_one_call_when_it_is_due() -> None:
    function = admitted(3, batch_size=10, batch_window_s=5.0)
    assert (function.ready(14.0), function.ready(15.0)) == (0, 1)
    assert function.wake_at() == 15.0


def park(function: Function, until: float) -> Work:
    work = function.lanes.take()
    function.lanes.hold(work)
    function.park(work, until)
    return work


def test_parked_works_wake_in_the_order_of_their_times() -> None:
    function = admitted(3)
    late, early, same = (park(function, until) for until in (30.0, 20.0, 20.0))
    assert (function.ready(10.0), function.wake_at()) == (0, 20.0)
    function.wake(19.9)
    assert function.ready(19.9) == 0
    function.wake(20.0)
    assert [function.lanes.take(), function.lanes.take()] == [early, same]
    function.wake(31.0)
    assert function.lanes.take() is late


def test_dropping_forgets_parked_works_of_the_partition_only() -> None:
    function = admitted(2)
    function.admit(entry([0], partition=P1), [0], 10.0)
    park(function, 20.0)
    park(function, 20.0)
    other = park(function, 25.0)
    function.drop(P0, 1)
    assert function.snapshot().parked == 2
    function.drop(P0, 0)
    assert (function.snapshot().parked, function.wake_at()) == (1, 25.0)
    function.wake(25.0)
    assert function.lanes.take() is other


@pytest.mark.parametrize(("until", "busy"), [(19.0, False), (20.0, True)])
def test_a_parked_work_counts_as_busy_when_it_is_due_in_time(until: float, busy: bool) -> None:
    function = admitted(1)
    park(function, 20.0)
    assert function.busy(P0, until) is busy
    assert not function.busy(P1, until)


def test_the_histograms_count_by_powers_of_two() -> None:
    function = admitted()
    function.called(0.000_200, 5)
    function.called(0.0, 1)
    snapshot = function.snapshot()
    assert {number: count for number, count in enumerate(snapshot.calls) if count} == {0: 1, 2: 1}
    assert {number: count for number, count in enumerate(snapshot.batch_records) if count} == {1: 1, 3: 1}
    assert snapshot.calls_sum_s == pytest.approx(0.000_2)


def test_the_snapshot_tells_waiting_in_flight_and_parked() -> None:
    function = admitted(3)
    park(function, 20.0)
    function.lanes.take()
    snapshot = function.snapshot()
    assert (snapshot.name, snapshot.waiting, snapshot.in_flight, snapshot.parked) == ("take", 1, 1, 1)
    batches = admitted(3, batch_size=2)
    batches.batcher.take(10.0)
    snapshot = batches.snapshot()
    assert (snapshot.waiting, snapshot.in_flight) == (1, 2)
