"""What a context says of its record, whatever the record holds."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from streamproc.adapters.memory import StoredRecord
from streamproc.context import Item
from streamproc.core.ledger import Ledger
from streamproc.model import Decoded, Poison, RecordBatch, TopicPartition

LATEST = datetime(9999, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        (None, datetime(1970, 1, 1, tzinfo=UTC)),
        (-1, datetime(1970, 1, 1, tzinfo=UTC)),
        (-(2**63), datetime(1970, 1, 1, tzinfo=UTC)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1_769_860_800_250, datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC)),
        (253_402_214_400_000, LATEST),
        (253_402_300_800_000, LATEST),
        (1_769_860_800_250_000, LATEST),
        (2**63 - 1, LATEST),
    ],
)
def test_any_time_of_a_record_can_be_asked_for(stamp: int | None, time: datetime) -> None:
    record = StoredRecord(0, stamp, b"k", b"v")  # type: ignore[arg-type]
    batch = RecordBatch(TopicPartition("events", 0), [record], start=0, next_offset=1, nbytes=0)
    entry = Ledger(batch.partition, epoch=1, start=0).admit(Decoded(batch, [Poison("json", "")], ()), now=0.0)
    found = Item(entry, 0, 1).record_time
    assert found == time
    for hours in (-12, 14):
        assert found.astimezone(timezone(timedelta(hours=hours))) == time
