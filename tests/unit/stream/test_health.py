"""Whether a process does its work, judged from snapshots."""

from streamproc.model import PartitionSnapshot, Snapshot, TopicPartition
from streamproc.stream.health import Watch

WHERE = TopicPartition("t", 0)


def snapshot(done: int, *, unsettled: int = 1, blocked: str = "") -> list[Snapshot]:
    one = PartitionSnapshot(WHERE, 1, 0, done, done + unsettled, unsettled, 0.0, blocked)
    return [Snapshot(partitions=[one])]


def look(watch: Watch, snapshots: list[Snapshot], now: float, *, end: int = 100, silent_s: float = 0.0) -> None:
    watch.look(snapshots, {WHERE: end}, silent_s=silent_s, now=now)


def test_without_partitions_it_is_not_ready_but_live() -> None:
    watch = Watch()
    look(watch, [Snapshot()], 0.0)
    assert watch.ready() == "no partition is assigned"
    assert watch.live() == ""


def test_a_partition_that_is_behind_and_does_not_move_is_stuck_then_dead() -> None:
    watch = Watch()
    look(watch, snapshot(5), 0.0)
    look(watch, snapshot(5), 59.0)
    assert (watch.ready(), watch.live()) == ("", "")
    look(watch, snapshot(5), 61.0)
    assert "t-0 is behind and has not moved for 61 s" in watch.ready()
    assert watch.live() == ""
    look(watch, snapshot(5), 181.0)
    assert "t-0" in watch.live()
    look(watch, snapshot(6), 182.0)
    assert (watch.ready(), watch.live()) == ("", "")


def test_a_partition_at_its_end_may_stand_still() -> None:
    watch = Watch()
    for now in (0.0, 100.0, 1_000.0):
        look(watch, snapshot(100, unsettled=0), now)
    assert (watch.ready(), watch.live()) == ("", "")


def test_what_blocks_a_partition_is_named_unless_it_is_back_pressure() -> None:
    watch = Watch()
    look(watch, snapshot(5, blocked="dead_letters_refused"), 0.0)
    assert watch.ready() == "t-0: dead_letters_refused"
    look(watch, snapshot(5, blocked="records"), 1.0)
    assert watch.ready() == ""


def test_a_broker_that_is_silent_makes_it_not_ready_but_live() -> None:
    watch = Watch()
    look(watch, snapshot(100, unsettled=0), 0.0, silent_s=16.0)
    assert watch.ready() == "Kafka has not answered for 16 s"
    assert watch.live() == ""
