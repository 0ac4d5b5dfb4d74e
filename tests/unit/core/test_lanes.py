import pytest

from streamproc.core.lanes import Lanes, Work
from tests.unit.core.build import P0, P1, entry


def admitted(*keys: str) -> Lanes:
    lanes = Lanes()
    lanes.admit(entry(range(len(keys))), range(len(keys)), keys)
    return lanes


def offsets(lanes: Lanes) -> list[int]:
    return [work.offset for work in lanes.ready]


def test_one_of_each_key_is_ready_first_come_first_served() -> None:
    lanes = admitted("a", "b", "a", "c", "b")
    assert offsets(lanes) == [0, 1, 3]
    assert lanes.waiting == 2


def test_the_next_of_a_key_is_ready_when_the_one_before_it_is_released() -> None:
    lanes = admitted("a", "a", "b", "a")
    first = lanes.take()
    assert offsets(lanes) == [2]
    lanes.release(first)
    assert offsets(lanes) == [2, 1]
    lanes.take()
    lanes.release(lanes.take())
    assert offsets(lanes) == [3]


def test_a_key_without_a_backlog_is_forgotten() -> None:
    lanes = admitted("a")
    lanes.release(lanes.take())
    assert lanes.lane(P0).held == {}
    lanes.admit(entry([5]), [0], ["a"])
    assert offsets(lanes) == [5]


def test_a_parked_record_holds_its_key_and_no_other() -> None:
    lanes = admitted("a", "a", "b")
    parked = lanes.take()
    lanes.hold(parked)
    assert (offsets(lanes), lanes.running) == ([2], set())
    lanes.resume(parked)
    assert offsets(lanes) == [2, 0]
    lanes.take()
    assert lanes.take() is parked
    lanes.release(parked)
    assert offsets(lanes) == [1]


def test_a_record_that_comes_while_its_key_is_parked_waits() -> None:
    lanes = admitted("a")
    lanes.hold(lanes.take())
    lanes.admit(entry([1]), [0], ["a"])
    assert (offsets(lanes), lanes.waiting) == ([], 1)


def test_equal_keys_of_two_partitions_do_not_wait_for_each_other() -> None:
    lanes = Lanes()
    lanes.admit(entry([0]), [0], ["a"])
    lanes.admit(entry([0], partition=P1), [0], ["a"])
    assert len(lanes.ready) == 2


def test_dropping_forgets_what_stands_at_the_horizon_or_above() -> None:
    lanes = admitted("a", "b", "a", "b", "c")
    lanes.drop(P0, 2, [])
    assert (offsets(lanes), lanes.waiting) == ([0, 1], 0)
    assert set(lanes.lane(P0).held) == {"a", "b"}


def test_dropping_takes_parked_records_along() -> None:
    lanes = admitted("a", "a", "b")
    parked = lanes.take()
    lanes.hold(parked)
    lanes.drop(P0, 0, [parked])
    assert (offsets(lanes), lanes.waiting, lanes.lane(P0).held) == ([], 0, {})


def test_a_key_in_a_call_stays_held_when_its_partition_is_revoked_and_comes_back() -> None:
    lanes = admitted("a", "a")
    old = lanes.take()
    lanes.drop(P0, 0, [])
    assert lanes.waiting == 0
    lanes.admit(entry([0, 1]), [0, 1], ["a", "a"])
    assert offsets(lanes) == []
    lanes.release(old)
    assert offsets(lanes) == [0]
    assert lanes.ready[0] is not old


def test_a_partition_that_is_not_known_can_be_dropped() -> None:
    Lanes().drop(P1, 0, [])


def test_the_horizon_is_above_what_is_in_a_call() -> None:
    lanes = admitted("a", "b", "c")
    assert lanes.horizon(P0) == 0
    lanes.take()
    lanes.take()
    assert (lanes.horizon(P0), lanes.horizon(P1)) == (2, 0)


def test_busy_is_what_runs_or_is_ready() -> None:
    lanes = admitted("a", "a")
    assert (lanes.busy(P0), lanes.busy(P1)) == (True, False)
    work = lanes.take()
    assert lanes.busy(P0)
    lanes.hold(work)
    assert not lanes.busy(P0)


def test_a_key_must_be_hashable() -> None:
    """The stage before this one sees to it."""
    with pytest.raises(TypeError):
        Lanes().admit(entry([0]), [0], [[]])


def test_a_work_knows_its_place() -> None:
    lanes = admitted("a")
    work = lanes.take()
    assert isinstance(work, Work)
    assert (work.offset, work.attempt, work.since) == (0, 1, 0.0)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("keys", ["abc", "aab", "aaa"])
def test_finish_settles_and_releases_in_one_step(keys: str, shared: bool) -> None:
    """Whatever the order of calls: the same is settled, held and ready as after the steps it saves."""
    left, right = admitted(*keys), admitted(*keys)
    for lanes in (left, right):
        for work in lanes.ready:
            if shared:
                work.entry.expect(work.index, 2)
    while left.ready:
        work, other = left.take(), right.take()
        left.finish(work)
        other.entry.ledger.settle_one(other.entry, other.index)
        other.lane.done += 1
        right.release(other)
        assert offsets(left) == offsets(right)
        assert bytes(work.entry.pending) == bytes(other.entry.pending)
        ledger, expected = work.entry.ledger, other.entry.ledger
        assert (ledger.unsettled, ledger.position()) == (expected.unsettled, expected.position())
        assert set(work.lane.held) == set(other.lane.held)
    assert (left.waiting, len(left.running)) == (0, 0)


def test_a_work_cannot_finish_twice() -> None:
    lanes = admitted("a", "a")
    work = lanes.take()
    lanes.finish(work)
    with pytest.raises(AssertionError, match="settled twice"):
        lanes.finish(work)


def test_a_work_of_an_old_epoch_settles_nothing() -> None:
    lanes = admitted("a")
    work = lanes.take()
    work.entry.ledger.close()
    lanes.finish(work)
    assert work.entry.pending == b"\1"
    assert not work.lane.held
