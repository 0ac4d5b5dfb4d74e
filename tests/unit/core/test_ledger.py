import pytest

from streamproc.core.ledger import Ledger
from streamproc.model import RecordBatch
from tests.unit.core.build import P0, batch, decoded, entry


def ledger(start: int = 0) -> Ledger:
    return Ledger(P0, epoch=1, start=start)


def test_it_begins_where_it_is_read_from() -> None:
    book = ledger(7)
    assert (book.position(), book.horizon(), book.admitted, book.committed) == (7, 7, 7, 7)
    assert book.oldest_since() == 0.0


def test_the_position_is_the_lowest_unsettled_offset() -> None:
    book = ledger()
    one = entry([0, 1, 2, 3], ledger=book)
    book.settle_one(one, 1)
    book.settle_one(one, 3)
    assert book.position() == 0
    book.settle_one(one, 0)
    assert book.position() == 2
    book.settle_one(one, 2)
    assert book.position() == 4
    assert (book.unsettled, len(book.entries)) == (0, 0)


def test_an_entry_waits_for_those_before_it() -> None:
    book = ledger()
    first, second = entry([0, 1], ledger=book), entry([2, 3], ledger=book)
    assert book.settle(second, [0, 1]) == 2
    assert (book.position(), book.unsettled, len(book.entries)) == (0, 2, 2)
    book.settle(first, range(2))
    assert (book.position(), len(book.entries)) == (4, 0)


def test_offsets_without_a_record_are_passed() -> None:
    book = ledger()
    one = book.admit(decoded(batch([3, 9], start=0, next_offset=20)), now=0.0)
    assert book.position() == 3
    book.settle_one(one, 0)
    assert book.position() == 9
    book.settle_one(one, 1)
    assert book.position() == 20


def test_a_batch_without_records_moves_the_position_when_nothing_is_before_it() -> None:
    book = ledger()
    book.admit(decoded(batch([], start=0, next_offset=5)), now=0.0)
    assert (book.position(), book.admitted, len(book.entries)) == (5, 5, 0)
    one = entry([5], ledger=book)
    book.admit(decoded(batch([], start=6, next_offset=9)), now=0.0)
    assert (book.position(), book.admitted) == (5, 9)
    book.settle_one(one, 0)
    assert (book.position(), len(book.entries)) == (9, 0)


def test_a_record_settles_when_all_its_functions_have() -> None:
    book = ledger()
    one = entry([0, 1], ledger=book)
    one.expect(0, 3)
    assert [book.settle(one, [0, 1]), book.settle(one, [0])] == [1, 0]
    assert book.position() == 0
    book.settle_one(one, 0)
    assert book.position() == 2


@pytest.mark.parametrize("how", ["settle", "settle_one"])
def test_a_second_settling_is_a_bug(how: str) -> None:
    book = ledger()
    one = entry([0, 1], ledger=book)
    book.settle_one(one, 0)
    with pytest.raises(AssertionError, match="offset 0 settled twice"):
        book.settle(one, [0]) if how == "settle" else book.settle_one(one, 0)


@pytest.mark.parametrize("other", [batch([4, 5]), batch([6]), batch([], start=4, next_offset=9)])
def test_a_batch_that_does_not_start_where_the_ledger_stands_is_refused(other: RecordBatch) -> None:
    with pytest.raises(AssertionError, match="after 5 was admitted"):
        ledger(5).admit(decoded(other), now=0.0)


def test_a_closed_ledger_takes_nothing_in() -> None:
    book = ledger()
    one = entry([0, 1], ledger=book)
    book.settle_one(one, 0)
    book.close()
    assert book.settle(one, [1]) == 0
    book.settle_one(one, 1)
    book.settle_one(one, 1)
    assert (book.unsettled, book.nbytes, len(book.entries)) == (0, 0, 0)


def test_the_horizon_is_above_everything_that_a_function_has_settled() -> None:
    book = ledger()
    first = entry([0, 1, 2], ledger=book)
    second = book.admit(decoded(batch([5, 8], start=3, next_offset=12)), now=0.0)
    assert book.horizon() == 0
    book.settle_one(first, 1)
    assert book.horizon() == 2
    book.settle_one(second, 0)
    assert book.horizon() == 6


def test_the_horizon_is_above_what_one_of_two_functions_has_settled() -> None:
    book = ledger()
    one = entry([0, 1, 2], ledger=book)
    one.expect(1, 2)
    assert book.horizon() == 0
    book.settle_one(one, 1)
    assert (book.horizon(), book.position()) == (2, 0)


def test_bytes_are_held_until_the_entry_is_passed() -> None:
    book = ledger()
    first = book.admit(decoded(batch([0], nbytes=10)), now=0.0)
    second = book.admit(decoded(batch([1], nbytes=5)), now=0.0)
    book.settle_one(second, 0)
    assert book.nbytes == 15
    book.settle_one(first, 0)
    assert book.nbytes == 0


def test_the_oldest_unsettled_record_is_as_old_as_its_entry() -> None:
    book = ledger()
    first = book.admit(decoded(batch([0])), now=3.0)
    book.admit(decoded(batch([1])), now=4.0)
    assert book.oldest_since() == 3.0
    book.settle_one(first, 0)
    assert book.oldest_since() == 4.0


def test_an_event_without_an_id_is_named_after_its_place() -> None:
    book = ledger(3)
    one = book.admit(decoded(batch([3, 4]), ids=["", "mine"]), now=0.0)
    assert [one.event_id(0), one.event_id(1)] == ["events/0/3", "mine"]
    assert entry([9]).event_id(0) == "events/0/9"
