from collections.abc import Callable

from streamproc.core.batcher import Batch, Batcher
from tests.unit.core.build import P0, P1, entry, keys_by


def batcher(size: int = 3, window_s: float = 0.0, key: Callable[[int], object] = lambda offset: offset) -> Batcher:
    return Batcher(size, window_s, keys_by(key))


def offsets(batch: Batch | None) -> list[int]:
    assert batch is not None
    fresh = [one.batch.records[index].offset for one, indexes in batch.parts for index in indexes]
    return [work.offset for work in batch.retried] + fresh


def test_a_batch_leaves_at_once_without_a_window() -> None:
    box = batcher()
    assert box.take(0.0) is None
    box.admit(entry([0, 1]), range(2), 0.0)
    assert offsets(box.take(0.0)) == [0, 1]
    assert box.take(0.0) is None


def test_a_batch_is_no_larger_than_its_size() -> None:
    box = batcher(3)
    box.admit(entry([0, 1]), range(2), 0.0)
    box.admit(entry([2, 3]), range(2), 0.0)
    first = box.take(0.0)
    assert offsets(first) == [0, 1, 2]
    assert first is not None
    box.finish(first)
    assert offsets(box.take(0.0)) == [3]


def test_a_window_ends_for_the_oldest_record() -> None:
    box = batcher(3, 5.0)
    box.admit(entry([0]), [0], 10.0)
    box.admit(entry([1]), [0], 14.0)
    assert box.wake_at() == 15.0
    assert box.take(14.9) is None
    assert offsets(box.take(15.0)) == [0, 1]
    assert box.wake_at() is None


def test_a_full_batch_does_not_wait_for_its_window() -> None:
    box = batcher(2, 5.0)
    box.admit(entry([0]), [0], 1.0)
    box.admit(entry([0], partition=P1), [0], 1.0)
    assert box.wake_at() == 0.0
    assert offsets(box.take(1.0)) == [0, 0]


def test_a_partition_has_one_batch_in_a_call() -> None:
    box = batcher(2)
    box.admit(entry(range(5)), range(5), 0.0)
    box.admit(entry([0], partition=P1), [0], 0.0)
    first = box.take(0.0)
    assert offsets(first) == [0, 1]
    assert offsets(box.take(0.0)) == [0]
    assert box.take(0.0) is None
    assert first is not None
    box.finish(first)
    assert offsets(box.take(0.0)) == [2, 3]


def test_partitions_take_turns() -> None:
    box = batcher(1)
    box.admit(entry([0, 1]), range(2), 0.0)
    box.admit(entry([0, 1], partition=P1), range(2), 0.0)
    seen = []
    for _ in range(4):
        batch = box.take(0.0)
        assert batch is not None
        seen.append(batch.lanes[0].partition)
        box.finish(batch)
    assert seen == [P0, P1, P0, P1]


def test_what_failed_waits_with_its_key_and_joins_a_later_batch_first() -> None:
    box = batcher(10, key=lambda offset: offset % 2)
    box.admit(entry(range(4)), range(4), 0.0)
    first = box.take(0.0)
    assert first is not None
    works = box.works(first)
    heads = box.finish(first, [works[0], works[2]])
    assert [work.offset for work in heads] == [0]
    box.admit(entry(range(4, 8)), range(4), 0.0)
    second = box.take(0.0)
    assert offsets(second) == [5, 7]
    assert second is not None
    box.finish(second)
    assert box.take(0.0) is None
    box.resume(heads[0])
    third = box.take(0.0)
    assert offsets(third) == [0, 2, 4, 6]
    assert third is not None
    box.finish(third)
    assert box.lanes[P0].held == {}


def test_a_ripe_key_that_does_not_fit_goes_on_in_the_next_batch() -> None:
    box = batcher(2, key=lambda offset: "k")
    box.admit(entry(range(2)), range(2), 0.0)
    first = box.take(0.0)
    assert first is not None
    (head,) = box.finish(first, box.works(first))
    box.admit(entry(range(2, 5)), range(3), 0.0)
    assert box.take(0.0) is None
    box.resume(head)
    taken = []
    while batch := box.take(0.0):
        taken.append(offsets(batch))
        box.finish(batch)
    assert taken == [[0, 1], [2, 3], [4]]
    assert box.lanes[P0].held == {}


def test_a_retry_that_fails_again_keeps_its_attempt() -> None:
    box = batcher(2)
    box.admit(entry([0]), [0], 0.0)
    batch = box.take(0.0)
    assert batch is not None
    assert batch.attempt() == 1
    (work,) = box.works(batch)
    work.attempt = 2
    box.resume(*box.finish(batch, [work]))
    again = box.take(0.0)
    assert again is not None
    assert (again.attempt(), box.works(again)) == (2, [work])


def test_dropping_keeps_what_stands_below_and_does_not_let_it_wait() -> None:
    box = batcher(10, 60.0)
    box.admit(entry(range(4)), range(4), 100.0)
    assert box.take(100.0) is None
    box.drop(P0, 2)
    assert offsets(box.take(100.0)) == [0, 1]


def test_the_window_of_a_dropped_partition_does_not_stay_open() -> None:
    box = batcher(10, 60.0)
    box.admit(entry([0]), [0], 100.0)
    box.drop(P0, 0)
    assert box.wake_at() is None
    box.admit(entry([0]), [0], 200.0)
    assert box.wake_at() == 260.0


def test_a_partition_in_a_call_stays_so_when_it_is_revoked_and_comes_back() -> None:
    box = batcher(10)
    box.admit(entry(range(2)), range(2), 0.0)
    old = box.take(0.0)
    assert old is not None
    box.drop(P0, 0)
    box.admit(entry(range(2)), range(2), 0.0)
    assert box.take(0.0) is None
    box.finish(old)
    assert offsets(box.take(0.0)) == [0, 1]


def test_dropping_forgets_keys_that_are_set_apart() -> None:
    box = batcher(10, key=lambda offset: "k")
    box.admit(entry(range(2)), range(2), 0.0)
    first = box.take(0.0)
    assert first is not None
    (head,) = box.finish(first, box.works(first))
    box.drop(P0, 0)
    assert box.lanes[P0].held == {}
    box.admit(entry(range(2)), range(2), 0.0)
    assert offsets(box.take(0.0)) == [0, 1]
    assert head.offset == 0


def test_horizon_and_busy() -> None:
    box = batcher(2)
    assert (box.horizon(P0), box.busy(P0)) == (0, False)
    box.admit(entry(range(3)), range(3), 0.0)
    assert (box.horizon(P0), box.busy(P0)) == (0, True)
    first = box.take(0.0)
    assert first is not None
    assert (box.horizon(P0), box.horizon(P1)) == (2, 0)
    heads = box.finish(first, box.works(first))
    last = box.take(0.0)
    assert last is not None
    assert box.horizon(P0) == 3
    box.finish(last)
    assert not box.busy(P0)
    box.resume(heads[1])
    assert box.busy(P0)


def test_the_length_of_a_batch_counts_both_kinds() -> None:
    box = batcher(10)
    box.admit(entry(range(3)), range(3), 0.0)
    first = box.take(0.0)
    assert first is not None
    (head,) = box.finish(first, box.works(first)[1:2])
    box.admit(entry([3]), [0], 0.0)
    box.resume(head)
    batch = box.take(0.0)
    assert batch is not None
    assert len(batch) == 2
    assert offsets(batch) == [1, 3]
