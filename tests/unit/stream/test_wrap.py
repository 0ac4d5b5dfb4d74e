"""What is wrapped is read again by the decoder of its format."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, Optional

import msgspec
import pytest

from streamproc import App, Event, HandlerError, Stream, testing
from streamproc.adapters.memory import StoredRecord
from streamproc.model import RecordBatch, TopicPartition
from streamproc.stream.decode import Decoder
from streamproc.stream.options import Format, StreamOptions
from streamproc.stream.wrap import encode, keeps_event_ids, record_of, wrap


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


class Point(NamedTuple):
    x: float
    y: float


@dataclass
class Box:
    corners: list[Point]


class Tree(msgspec.Struct, rename="camel"):
    leaf_weight: float | None = None
    children: list["Tree"] = []


class Measured(Event, tag="measured"):
    value: float = 1.0
    max_value: Optional[float] = None  # noqa: UP045
    box: Box | None = None
    by_name: dict[str, float] = {}  # noqa: RUF012
    tree: Tree | None = None
    anything: Any = None
    note: str | None = None


class Counted(Event, tag="counted"):
    count: int
    note: str | None = None
    total: Decimal = Decimal(1)


NUMBERS = [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")]


@pytest.mark.parametrize(("number", "name"), NUMBERS)
@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda n: Measured(n), "$.value"),
        (lambda n: Measured(max_value=n), "$.maxValue"),
        (lambda n: Measured(box=Box([Point(1, 2), Point(3, n)])), "$.box.corners[1][1]"),
        (lambda n: Measured(by_name={"a": 1.0, "b": n}), "$.byName[...]"),
        (lambda n: Measured(tree=Tree(children=[Tree(), Tree(leaf_weight=n)])), "$.tree.children[1].leafWeight"),
        (lambda n: Measured(anything={"deep": [(n,)]}), "$.anything"),
    ],
)
def test_a_number_that_readers_refuse_is_not_written(
    make: Callable[[float], Event], path: str, number: float, name: str
) -> None:
    with pytest.raises(HandlerError) as caught:
        encode(make(number))
    assert str(caught.value).startswith(f"measured cannot be written: {name} at `{path}")


@pytest.mark.parametrize(
    "event",
    [
        Measured(),
        Measured(1e308, 5e-324, Box([Point(0, -0.0)]), {"null": 1.0}, Tree(0.5), [None, 1.5, "null"], "null"),
        Counted(1),
        Counted(2, "null", Decimal("NaN")),
    ],
)
def test_all_other_events_are_written_as_they_are(event: Event) -> None:
    assert encode(event) == msgspec.json.encode(event)
    assert msgspec.json.decode(encode(event), type=type(event)) == event or "NaN" in repr(event)


@pytest.mark.parametrize("is_emitted", [True, False])
async def test_a_function_that_writes_one_fails_and_says_where(is_emitted: bool) -> None:
    async def handler(event: Order, ctx: Any) -> None:
        if is_emitted:
            ctx.emit(Measured(math.nan), topic="out")
        else:
            ctx.event(Measured(math.nan), key="k")

    app = App(functions=[Stream(Order, handler, max_retry_attempts=0)])
    result = await testing.run(app, [Order("o-1")])
    assert result.emitted == {}
    assert result.dead_letters[0].message.startswith("measured cannot be written: NaN at `$.value`")


def test_no_way_to_a_record_takes_one() -> None:
    for write in (
        lambda: record_of(Measured(math.inf), StreamOptions(), key="k"),
        lambda: testing.envelope(Measured(math.inf)),
    ):
        with pytest.raises(HandlerError, match="Infinity at `"):
            write()


async def test_a_test_is_not_given_an_event_that_no_reader_would_get() -> None:
    async def handler(event: Measured, ctx: Any) -> None: ...

    with pytest.raises(HandlerError, match="NaN at `"):
        await testing.invoke(App(functions=[Stream(Measured, handler)]), Measured(math.nan))
