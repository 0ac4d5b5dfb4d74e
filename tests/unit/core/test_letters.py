from streamproc.core.letters import BACKOFF_MAX_S, BACKOFF_S, BLOCKED_AFTER, Letter, Letters
from streamproc.model import Failure, TopicPartition
from tests.unit.core.build import P0, P1, entry


def letter(offset: int = 0, partition: TopicPartition = P0, function: str = "take") -> Letter:
    made = Letter(
        entry([offset], partition=partition), 0, event_type="thing", condition="bad", failure=Failure("Reject", "")
    )
    made.function = function
    return made


def queued(*letters: Letter) -> Letters:
    box = Letters()
    for one in letters:
        box.add(one)
    return box


def test_letters_leave_in_order_and_up_to_a_limit() -> None:
    three = [letter(offset) for offset in range(3)]
    box = queued(*three)
    assert len(box) == 3
    assert box.take(0.0, 2) == three[:2]
    assert box.take(0.0, 2) == three[2:]
    assert box.take(0.0, 2) == []


def test_a_refused_letter_is_sent_again_after_a_while_and_before_later_ones() -> None:
    first, second = letter(0), letter(1)
    box = queued(first, second)
    box.refused(box.take(0.0, 1), "down", 0.0)
    assert box.wake_at() == BACKOFF_S
    assert box.take(BACKOFF_S / 2, 9) == []
    assert box.take(BACKOFF_S, 9) == [first, second]


def test_the_wait_doubles_up_to_a_limit() -> None:
    box = queued(letter())
    now = 0.0
    waits = []
    for _ in range(9):
        box.refused(box.take(now, 1), "down", now)
        wake_at = box.wake_at()
        assert wake_at is not None
        waits.append(wake_at - now)
        now = wake_at
    assert waits[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert waits[5:] == [BACKOFF_MAX_S] * 4


def test_a_partition_is_blocked_after_some_refusals_until_one_goes_through() -> None:
    box = queued(letter(0), letter(1))
    now = 0.0
    for number in range(BLOCKED_AFTER):
        assert box.blocked(P0) == ""
        box.refused(box.take(now, 9), f"down {number}", now)
        now += 60.0
    assert box.blocked(P0) == f"down {BLOCKED_AFTER - 1}"
    assert box.blocked(P1) == ""
    box.sent(box.take(now, 1))
    assert box.blocked(P0) == ""


def test_partitions_are_refused_one_by_one() -> None:
    here, there = letter(0), letter(0, P1)
    box = queued(here, there)
    box.refused(box.take(0.0, 1), "down", 0.0)
    assert box.take(0.0, 9) == [there]


def test_busy_until_sent_or_known_to_be_refused() -> None:
    box = queued(letter())
    assert (box.busy(P0), box.busy(P1)) == (True, False)
    taken = box.take(0.0, 9)
    assert box.busy(P0)
    box.refused(taken, "down", 0.0)
    assert not box.busy(P0)
    again = box.take(60.0, 9)
    assert box.busy(P0)
    box.sent(again)
    assert not box.busy(P0)


def test_busy_while_one_of_two_is_still_being_sent() -> None:
    box = queued(letter(0), letter(1))
    first, second = box.take(0.0, 1), box.take(0.0, 1)
    box.sent(first)
    assert box.busy(P0)
    box.sent(second)
    assert not box.busy(P0)


def test_dropping_a_revoked_partition_forgets_its_letters_and_refusals() -> None:
    kept = letter(0, P1)
    box = queued(letter(0), kept, letter(1))
    box.refused(box.take(0.0, 1), "down", 0.0)
    box.drop(P0, 0)
    assert len(box) == 1
    assert not box.busy(P0)
    assert box.take(0.0, 9) == [kept]
    box.add(letter(0))
    assert len(box.take(0.0, 9)) == 1


def test_dropping_above_an_offset_keeps_what_is_below() -> None:
    low, high = letter(3), letter(7)
    box = queued(low, high)
    box.drop(P0, 7)
    assert box.take(0.0, 9) == [low]


def test_the_horizon_is_above_letters_of_ended_calls_and_those_on_their_way() -> None:
    poison = letter(9, function="")
    box = queued(letter(4), poison)
    assert (box.horizon(P0), box.horizon(P1)) == (5, 0)
    box.take(0.0, 9)
    assert box.horizon(P0) == 10


def test_nothing_wakes_an_empty_box() -> None:
    assert Letters().wake_at() is None
    assert queued(letter()).wake_at() == 0.0


def test_a_letter_knows_its_place() -> None:
    one = letter(5, P1)
    assert (one.partition, one.offset) == (P1, 5)
