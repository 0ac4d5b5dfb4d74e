"""Whether a process does its work, judged from snapshots: what a restart would end, and what it would not."""

import pytest

from streamproc.model import FunctionSnapshot, PartitionSnapshot, Snapshot, TopicPartition
from streamproc.stream.health import CallLimits, Calls, Watch

WHERE = TopicPartition("t", 0)
DAY_S = 86_400.0
LIMITS = {"quick": CallLimits(8, 5.0), "slow": CallLimits(2, DAY_S), "gather": CallLimits(800, 5.0, 300.0)}


def function(
    name: str, *, in_flight: int = 0, waiting: int = 0, parked: int = 0, calls: tuple[int, ...] = (0,)
) -> FunctionSnapshot:
    return FunctionSnapshot(name, waiting, in_flight, parked, calls, 0.0, in_flight)


def snapshot(done: int, *functions: FunctionSnapshot, unsettled: int = 1, blocked: str = "") -> list[Snapshot]:
    one = PartitionSnapshot(WHERE, 1, 0, done, done + unsettled, unsettled, 0.0, blocked)
    return [Snapshot(partitions=[one], functions=functions)]


def look(
    watch: Watch, snapshots: list[Snapshot], now: float, *, end: int = 100, silent_s: float = 0.0, trouble: str = ""
) -> None:
    watch.look(snapshots, {WHERE: end}, trouble=trouble, silent_s=silent_s, now=now)


def stands(snapshots: list[Snapshot], seconds: float, **more: float) -> Watch:
    """A watch that has seen how things stand, unchanged for so long."""
    watch = Watch(LIMITS)
    look(watch, snapshots, 0.0)
    look(watch, snapshots, seconds, **more)  # type: ignore[arg-type]
    return watch


def test_without_partitions_it_is_not_ready_but_no_restart_helps() -> None:
    watch = stands([Snapshot()], 10_000.0)
    assert watch.ready() == "no partition is assigned"
    assert watch.suspicion() == ""


def test_what_the_client_brings_nothing_of_is_unready_and_then_suspect() -> None:
    watch = Watch(LIMITS)
    idle = snapshot(5, unsettled=0)
    look(watch, idle, 0.0)
    look(watch, idle, 59.0)
    assert (watch.ready(), watch.suspicion()) == ("", "")
    look(watch, idle, 61.0)
    assert watch.ready() == "t-0 is behind and has not moved for 61 s: nothing of it comes from Kafka"
    assert watch.suspicion() == ""
    look(watch, idle, 181.0)
    assert watch.suspicion() == "t-0 is behind, and the Kafka client has brought nothing of it for 181 s"
    look(watch, snapshot(6, unsettled=0), 182.0)
    assert (watch.ready(), watch.suspicion()) == ("", "")


def test_a_client_that_hears_nothing_is_suspect_after_a_while() -> None:
    assert stands(snapshot(100, unsettled=0), 100.0, silent_s=100.0).suspicion() == ""
    suspicion = stands(snapshot(100, unsettled=0), 181.0, silent_s=181.0).suspicion()
    assert suspicion == "the Kafka client has heard nothing for 181 s, though Kafka answers others"


def test_a_call_within_its_limit_is_life_and_work() -> None:
    watch = stands(snapshot(5, function("slow", in_flight=1)), DAY_S)
    assert (watch.ready(), watch.suspicion()) == ("", "")


def test_a_call_beyond_its_limit_is_named_but_no_restart() -> None:
    watch = stands(snapshot(5, function("quick", in_flight=1)), 66.0)
    assert watch.ready() == "t-0 is behind and has not moved for 66 s: calls go on beyond timeout_s, of quick"
    assert stands(snapshot(5, function("quick", in_flight=1)), 10_000.0).suspicion() == ""


def test_a_record_that_waits_for_its_batch_is_work() -> None:
    assert stands(snapshot(5, function("gather", waiting=1)), 300.0).ready() == ""


def test_a_parked_retry_is_told_and_no_reason_for_a_restart() -> None:
    watch = stands(snapshot(5, function("quick", parked=3), function("slow", in_flight=1)), 3_600.0)
    assert watch.ready() == (
        "t-0 is behind and has not moved for 3600 s: records wait for a retry of quick (3), see the log for its errors"
    )
    assert watch.suspicion() == ""


def test_what_stands_for_another_reason_says_where_to_look() -> None:
    assert stands(snapshot(5, function("quick")), 61.0).ready().endswith("for 61 s: see /debug/partitions")


def test_a_partition_at_its_end_may_stand_still() -> None:
    watch = stands(snapshot(100, unsettled=0), 10_000.0)
    assert (watch.ready(), watch.suspicion()) == ("", "")


@pytest.mark.parametrize(
    "blocked",
    ["dead_letters_refused", "offset_out_of_range", "oversized_record", "unreadable_batch", "not_authorized", "new"],
)
def test_what_blocks_a_partition_is_named_with_what_to_do_and_no_reason_for_a_restart(blocked: str) -> None:
    watch = stands(snapshot(5, unsettled=0, blocked=blocked), 10_000.0)
    assert watch.ready().startswith(f"t-0: {blocked}")
    assert watch.suspicion() == ""


@pytest.mark.parametrize("blocked", ["records", "span", "bytes", "draining"])
def test_back_pressure_is_neither(blocked: str) -> None:
    watch = stands(snapshot(5, blocked=blocked), 59.0)
    assert watch.ready() == ""
    assert stands(snapshot(5, unsettled=0, blocked=blocked), 10_000.0).suspicion() == ""


def test_an_outage_of_the_broker_is_told_before_what_follows_from_it() -> None:
    watch = stands(snapshot(5, unsettled=0), 170.0, silent_s=170.0)
    assert watch.ready() == "Kafka has not answered for 170 s"
    assert watch.suspicion() == ""


def test_what_a_consumer_says_of_itself_comes_first() -> None:
    watch = Watch(LIMITS)
    for now in (0.0, 1_000.0):
        look(watch, snapshot(5, unsettled=0), now, trouble="topic t is gone")
    assert (watch.ready(), watch.suspicion()) == ("topic t is gone", "")


def test_a_function_whose_calls_all_outlived_their_limit_is_hung() -> None:
    calls = Calls(LIMITS)
    for now in (0.0, 184.0):
        calls.look([[function("quick", in_flight=8)]], now=now)
    assert calls.hung() == ""
    calls.look([[function("quick", in_flight=8)]], now=186.0)
    assert calls.hung() == ("quick cannot be called: all of its 8 calls have gone on for 186 s, beyond timeout_s = 5")
    calls.look([[function("quick", in_flight=8, calls=(1,))]], now=187.0)
    assert calls.hung() == ""


def test_a_function_with_a_free_place_or_within_its_limit_is_not() -> None:
    calls = Calls(LIMITS)
    for now in (0.0, 10_000.0):
        calls.look([[function("quick", in_flight=7), function("slow", in_flight=2)]], now=now)
    assert calls.hung() == ""


def test_each_pipeline_has_places_of_its_own() -> None:
    calls = Calls(LIMITS)
    for number, now in enumerate((0.0, 10_000.0)):
        calls.look([[function("quick", in_flight=8, calls=(number,))], [function("quick", in_flight=8)]], now=now)
    assert "quick cannot be called" in calls.hung()
