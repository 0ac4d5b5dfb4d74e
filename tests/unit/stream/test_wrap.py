"""What is wrapped is read again by the decoder of its format."""

import pytest

from streamproc import Event
from streamproc.adapters.memory import StoredRecord
from streamproc.model import RecordBatch, TopicPartition
from streamproc.stream.decode import Decoder
from streamproc.stream.options import Format, StreamOptions
from streamproc.stream.wrap import keeps_event_ids, wrap


class Order(Event, frozen=True, tag="order.placed"):
    order_id: str


LINE = b'{"type": "order.placed", "orderId": "o-1"}'


@pytest.mark.parametrize("form", ["kinesis", "base64", "json", "cloudevents", "auto"])
def test_what_is_wrapped_is_read_again_with_its_id_where_there_is_room(form: Format) -> None:
    value, headers = wrap(LINE, form, event_id="e-1", event_type="order.placed", key="o-1")
    record = StoredRecord(0, 0, None, value, headers)
    batch = RecordBatch(TopicPartition("events", 0), [record], start=0, next_offset=1, nbytes=len(value))
    decoded = Decoder([Order], StreamOptions(format=form), "events").decode(batch)
    assert decoded.events == [Order(order_id="o-1")]
    assert list(decoded.ids or [""]) == ["e-1" if keeps_event_ids(form) else ""]
