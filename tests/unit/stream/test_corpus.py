"""The corpus of bad input through the decoder alone and through the pipeline in memory; rows of the fault matrix."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from streamproc import App, Context, Event, Reject, Stream, testing
from streamproc.adapters.memory import StoredRecord
from streamproc.model import Decoded, OutRecord, Poison, RecordBatch, TopicPartition
from streamproc.stream.deadletter import CONNECT, HEADERS_MAX, OURS
from streamproc.stream.decode import Decoder
from streamproc.stream.options import StreamOptions
from tests.corpus import generate
from tests.corpus.events import EVENTS, OrderPlaced, UserCreated
from tests.corpus.load import Case, cases, large_cases
from tests.corpus.parts import USER
from tests.corpus.play import TOPIC, play

MEGABYTE = 1_048_576
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


async def take(event: Event, ctx: Context[None]) -> None:
    """Does nothing."""


NOTHING = App(functions=[Stream(event, take, name=event.__name__) for event in EVENTS])


def out_record(case: Case) -> OutRecord:
    return OutRecord(TOPIC, case.value, case.key, case.headers, partition=0)


def decode(case: Case, **options: Any) -> Decoded:
    record = StoredRecord(0, 0, case.key, case.value, case.headers)
    batch = RecordBatch(TopicPartition(TOPIC, 0), [record], start=0, next_offset=1, nbytes=case.size)
    return Decoder(EVENTS, StreamOptions(**options), TOPIC).decode(batch)


def check(case: Case) -> None:
    event = decode(case).events[0]
    if case.expected == "ok":
        assert isinstance(event, tuple(EVENTS)), event
        return
    assert isinstance(event, Poison), event
    assert (event.reason, case.path in event.detail) == (case.expected, True), event
    assert not CONTROL.search(event.detail)
    assert len(event.detail) <= 400
    assert event.event_type in ("other", *(str(known.__struct_config__.tag) for known in EVENTS))


def headers_of(record: StoredRecord) -> dict[str, str]:
    """Our headers, each of which is there once."""
    ours = [(name, (value or b"").decode()) for name, value in record.headers if name.startswith((OURS, CONNECT))]
    assert len(dict(ours)) == len(ours)
    return dict(ours)


def check_letters(played: Sequence[Case], letters: Sequence[StoredRecord | None], expected: Mapping[str, str]) -> None:
    """One dead letter, byte for byte, for each case that is not expected to be ok."""
    found: dict[str, str] = {}
    for letter in letters:
        assert letter is not None
        headers = headers_of(letter)
        case = played[int(headers[OURS + "offset"])]
        found[case.id] = headers[OURS + "condition"]
        whole = b"" if case.value is None and case.key is None else case.value
        assert (letter.value, letter.key) == (whole, case.key), case.id
        assert (OURS + "value.null" in headers) == (case.value is None and case.key is None)
    assert len(found) == len(letters)
    assert found == {name: condition for name, condition in expected.items() if condition != "ok"}


def test_what_is_checked_in_is_what_the_generator_makes(tmp_path: Path) -> None:
    generate.write(tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    folder = generate.FOLDER
    kept = {path.relative_to(folder): path.read_bytes() for path in (folder / "files").iterdir()}
    kept[Path("manifest.json")] = (folder / "manifest.json").read_bytes()
    assert made == kept
    assert sum(map(len, kept.values())) < 300_000
    assert len({case.id.lower() for case in cases()}) == len(cases())


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
def test_decoder(case: Case) -> None:
    check(case)


def test_decoder_on_large_cases() -> None:
    for case in large_cases():
        check(case)


def test_a_bad_record_changes_nothing_for_its_neighbours() -> None:
    records = [StoredRecord(n, 0, case.key, case.value, case.headers) for n, case in enumerate(cases())]
    batch = RecordBatch(TopicPartition(TOPIC, 0), records, start=0, next_offset=len(records), nbytes=0)
    decoded = Decoder(EVENTS, StreamOptions(), TOPIC).decode(batch)
    outcomes = [event.reason if isinstance(event, Poison) else "ok" for event in decoded.events]
    assert outcomes == [case.expected for case in cases()]
    alone = [decode(case).ids[0] for case in cases()]
    assert decoded.ids == alone


@pytest.mark.parametrize("name", ["2-to-the-64", "2-to-the-63", "2-to-the-53-plus-1"])
def test_large_integers_are_exact(name: str) -> None:
    [case] = [case for case in cases() if case.id == f"B12-{name}"]
    event = decode(case).events[0]
    assert isinstance(event, OrderPlaced)
    assert event.items[0].quantity == {"2-to-the-64": 2**64, "2-to-the-63": 2**63}.get(name, 2**53 + 1)


async def test_every_case_is_settled_and_every_bad_one_is_kept() -> None:
    played = cases()
    result = await testing.run(NOTHING, [out_record(case) for case in played])
    check_letters(played, [letter.record for letter in result.dead_letters], {c.id: c.expected for c in played})
    assert result.count("ok") == sum(case.expected == "ok" for case in played)
    assert result.count("retried") == 0


async def test_strict_json_also_refuses_duplicate_keys() -> None:
    played = cases()
    result = await testing.run(NOTHING, [out_record(case) for case in played], options=StreamOptions(strict_json=True))
    expected = {case.id: "duplicate_key" if case.row == "B14" else case.expected for case in played}
    expected["B15-ignored-field"] = "encoding"  # the second pass reads what no event has a field for, too
    check_letters(played, [letter.record for letter in result.dead_letters], expected)


async def test_large_cases_are_settled_and_kept() -> None:
    for case in large_cases():
        result = await play(NOTHING, [out_record(case), OutRecord(TOPIC, testing.envelope(USER.encode()), partition=0)])
        assert result.committed == 2
        check_letters([case], result.letters, {case.id: case.expected})


async def test_b19_types_without_number_are_one_series() -> None:
    records = [OutRecord(TOPIC, testing.envelope(b'{"type":"t-%d"}' % n), partition=0) for n in range(100_000)]
    result = await play(NOTHING, records)
    assert result.snapshot.records == {(TOPIC, "other", "dead_lettered"): 100_000}
    assert result.snapshot.dead_letters == {"unknown_type": 100_000}


async def test_b23_forged_headers_are_replaced() -> None:
    played = [case for case in cases() if case.id == "B23-forged"]
    result = await testing.run(NOTHING, [out_record(case) for case in played])
    assert result.dead_letters[0].record is not None
    headers = headers_of(result.dead_letters[0].record)
    told = {name: headers[OURS + name] for name in ("condition", "offset", "topic")}
    assert told == {"condition": "json", "offset": "0", "topic": TOPIC}
    assert headers[CONNECT + "topic"] == TOPIC
    assert not {OURS + "value.null", OURS + "value.truncated"} & headers.keys()


async def test_b23_other_headers_are_kept_up_to_a_limit() -> None:
    chosen = {case.id: case for case in [*cases(), *large_cases()] if case.row == "B23" and case.expected != "ok"}
    kept: dict[str, list[tuple[str, bytes | None]]] = {}
    for name, case in chosen.items():
        [letter] = (await testing.run(NOTHING, [out_record(case)])).dead_letters
        assert letter.record is not None
        kept[name] = [pair for pair in letter.record.headers if not pair[0].startswith((OURS, CONNECT))]
    assert kept["B23-foreign"] == list(chosen["B23-foreign"].headers)
    assert kept["B23-1000-headers"] == list(chosen["B23-1000-headers"].headers[:HEADERS_MAX])
    assert kept["B23-1-mb-header"] == [("before", b"x")]


async def test_b24_what_the_broker_refuses_for_its_size_is_cut_and_points_to_its_source() -> None:
    async def letter_of(size: int) -> StoredRecord:
        [letter] = (await testing.run(NOTHING, [OutRecord(TOPIC, b"A" * size, b"k", [("own", b"x")])])).dead_letters
        assert letter.reason == "json"
        assert letter.record is not None
        return letter.record

    small = await letter_of(MEGABYTE // 2)
    fits = MEGABYTE - sum(len(value or b"") for _, value in small.headers)
    assert len((await letter_of(fits)).value or b"") == fits
    for size in (fits + 1, MEGABYTE - 1):
        cut = await letter_of(size)
        headers = headers_of(cut)
        assert "own" not in headers
        if size == fits + 1:
            assert (cut.value, cut.key) == (b"A" * size, b"k")
        else:
            assert (cut.value, cut.key) == (b"A" * 1_024, b"k")
            assert headers[OURS + "value.truncated"] == str(size)
        assert [headers[OURS + name] for name in ("topic", "partition", "offset")] == [TOPIC, "0", "0"]


async def test_b25_and_b26_an_event_id_with_another_body_is_a_conflict_within_its_type() -> None:
    effects: dict[tuple[str, str], Event] = {}

    async def once(event: Event, ctx: Context[None]) -> Reject | None:
        first = effects.setdefault((type(event).__name__, ctx.event_id), event)
        return None if first == event else Reject("conflict", "this event id had another body before")

    app = App(functions=[Stream(event, once, name=event.__name__) for event in EVENTS])
    played = [case for case in cases() if case.id.startswith(("B25", "B26-collision"))]
    again = [played[0], *played]
    result = await testing.run(app, [out_record(case) for case in again])
    assert [letter.reason for letter in result.dead_letters] == ["conflict"]
    assert result.dead_letters[0].record is not None
    assert result.dead_letters[0].record.value == played[1].value
    assert result.count("ok") == 4
    assert [effect for effect in effects.values() if effect == UserCreated(user_id="u-2")] == []
