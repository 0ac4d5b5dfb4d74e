"""Stage 2: record batches become events. Pure.

Two steps over whole batches: `envelope.py` opens each record (record -> payload, event id), then the payloads are
parsed into typed events. What cannot become an event becomes a `Poison` with a reason of a closed set; no exception
leaves this stage. One parser (msgspec) reads a record everywhere.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from streamproc.model import Decoded, Event, Poison, RecordBatch, Records
from streamproc.stream.envelope import Payload, classify, opener
from streamproc.stream.options import StreamOptions

_NUL = b"\\u0000"


class _Tag(msgspec.Struct, gc=False):
    type: msgspec.Raw = msgspec.Raw(b"null")


class Decoder:
    """Decodes the batches of one topic into the event types given; built once."""

    def __init__(self, events: Sequence[type[Event]], options: StreamOptions, topic: str) -> None:
        self._tag: msgspec.json.Decoder[_Tag] = msgspec.json.Decoder(_Tag)
        self._types = {str(event.__struct_config__.tag): self._decoder(event) for event in events}
        self._union: msgspec.json.Decoder[Event] = _union(events)
        self._open = opener(options.format_of(topic), self._types)
        self._bytes_max = options.max_record_bytes
        self._strict = options.strict_json

    def decode(self, batch: RecordBatch) -> Decoded:
        """All records of a batch, aligned with them."""
        if batch.nbytes <= self._bytes_max or self._fits(batch.records):
            payloads, ids = self._open(batch.records)
        else:
            payloads, ids = self._open_bounded(batch.records)
        if "\0" in "".join(ids):
            _refuse_ids(payloads, ids)
        events = self._parse(payloads)
        if self._strict or _may_hold_nul(payloads):
            self._refuse(payloads, events)
        return Decoded(batch, events, ids)

    def _decoder(self, event: type[Event]) -> Callable[[bytes], Event | Poison]:
        """Decodes one type, for formats that tell it outside of the event."""
        parse = msgspec.json.Decoder(event).decode
        return lambda data: self._checked(data, parse(data))

    def _fits(self, records: Records) -> bool:
        return max(map(len, filter(None, records.values)), default=0) <= self._bytes_max

    def _open_bounded(self, records: Records) -> tuple[list[Payload], list[str]]:
        payloads: list[Payload] = []
        ids: list[str] = []
        for record in records:
            size = len(record.value or b"")
            if size > self._bytes_max:
                payloads.append(Poison("too_large", f"the value has {size} bytes, the limit is {self._bytes_max}"))
                ids.append("")
            else:
                opened, found = self._open(Records([record]))
                payloads += opened
                ids += found
        return payloads, ids

    def _parse(self, payloads: Sequence[Payload]) -> list[Event | Poison]:
        events: list[Event | Poison] = []
        rest = map(self._union.decode, payloads)  # type: ignore[arg-type]  # what is not bytes is an error
        while True:
            try:
                events.extend(rest)
                if len(events) == len(payloads):
                    return events
                raise StopIteration  # of an event's own check, which `extend` takes for the end
            except Exception as error:
                payload = payloads[len(events)]
                events.append(self._poison(payload, error) if isinstance(payload, bytes) else payload)

    def _poison(self, payload: bytes, error: Exception) -> Poison:
        if not payload:
            return Poison("empty", "the event has no bytes")
        poison = classify(error, shape="schema")
        if poison.reason != "schema":
            return poison
        try:
            tag: Any = msgspec.json.decode(self._tag.decode(payload).type)
        except Exception:
            return poison
        if isinstance(tag, str) and tag in self._types:
            return Poison("schema", poison.detail, tag)
        named = f"the event type {tag[:64]!r}" if isinstance(tag, str) else "an event without a type"
        return Poison("unknown_type", f"no function takes {named} - at `$.type`")

    def _refuse(self, payloads: Sequence[Payload], events: list[Event | Poison]) -> None:
        for index, payload in enumerate(payloads):
            event = events[index]
            if isinstance(payload, bytes) and isinstance(event, Event):
                events[index] = self._checked(payload, event)

    def _checked(self, payload: bytes, event: Event) -> Event | Poison:
        """The event, or why it is refused although its JSON can be parsed."""
        tag = str(type(event).__struct_config__.tag)
        try:
            if _NUL in payload and _holds_nul(msgspec.to_builtins(event)):
                return Poison("nul", "a string holds U+0000", tag)
            if self._strict and _names_a_key_twice(payload):
                return Poison("duplicate_key", "an object names a key twice", tag)
        except Exception as error:
            poison = classify(error, shape="json")
            return Poison(poison.reason, poison.detail, tag)
        return event


class _Nothing(Event, tag="streamproc.nothing"):
    """The event that no record is: of one type alone, the parser would take an event that names none."""

    def __post_init__(self) -> None:
        raise ValueError("no event")


def _union(events: Sequence[type[Event]]) -> Any:
    union: Any = _Nothing
    for event in events:
        union = union | event
    return msgspec.json.Decoder(union)


def _refuse_ids(payloads: list[Payload], ids: list[str]) -> None:
    for index, event_id in enumerate(ids):
        if "\0" in event_id:
            payloads[index] = Poison("nul", "the event id holds U+0000")
            ids[index] = ""


def _may_hold_nul(payloads: Sequence[Payload]) -> bool:
    """Whether a payload holds an escaped U+0000; the search for one byte that most lack is ten times as fast."""
    try:
        joined = b"".join(payloads)  # type: ignore[arg-type]  # what is not bytes is an error
    except TypeError:
        joined = b"".join([payload for payload in payloads if type(payload) is bytes])
    return b"\\" in joined and _NUL in joined


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(one) for pair in value.items() for one in pair)
    return isinstance(value, list | tuple) and any(_holds_nul(one) for one in value)


def _names_a_key_twice(payload: bytes) -> bool:
    twice = False

    def seen(pairs: list[tuple[str, object]]) -> None:
        nonlocal twice
        twice = twice or len({key for key, _ in pairs}) < len(pairs)

    json.loads(str(payload, "utf-8"), object_pairs_hook=seen, parse_int=str, parse_float=str)
    return twice
