import gzip
import os
from collections.abc import Iterator

import aiokafka.codec
import pytest
from aiokafka.record import default_records as pure
from aiokafka.record._crecords import default_records as compiled
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streamproc.adapters.kafka_inflate import DECODING, Inflated, gunzip, limit_inflation, unsnappy

LIMIT = 2_000_000
CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    limit_inflation(LIMIT)
    yield
    limit_inflation(67_108_864)


def log(codec: str, *values: bytes) -> bytes:
    builder = DefaultRecordBatchBuilder(2, CODECS[codec], False, -1, -1, -1, 1_000_000_000)
    for number, value in enumerate(values):
        builder.append(number, timestamp=0, key=None, value=value, headers=[])
    return bytes(builder.build())


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [0, 1, 70_000, 1_900_000])
@pytest.mark.parametrize("kind", ["zeros", "noise"])
def test_what_fits_comes_out_whole(codec: str, size: int, kind: str) -> None:
    value = bytes(size) if kind == "zeros" else os.urandom(size)
    (record,) = MemoryRecords(log(codec, value)).next_batch()
    assert record.value == value


@pytest.mark.parametrize("codec", CODECS)
def test_what_inflates_beyond_the_limit_is_refused(codec: str) -> None:
    raw = log(codec, bytes(30_000_000))
    with pytest.raises(Inflated, match=r"kafka\.inflated_bytes_max = 2000000"):
        list(MemoryRecords(raw).next_batch())


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_cut_off_is_an_error_of_its_codec(codec: str) -> None:
    whole = getattr(aiokafka.codec, f"{codec}_encode")(os.urandom(50_000) + bytes(50_000))
    with pytest.raises(Exception) as caught:  # noqa: PT011  # each codec has its own
        getattr(pure, f"{codec}_decode")(memoryview(whole[:30_000]))
    assert not isinstance(caught.value, Inflated)


def test_all_members_of_a_gzip_count() -> None:
    one = gzip.compress(bytes(900_000))
    assert gunzip(one + one, LIMIT) == bytes(1_800_000)
    with pytest.raises(Inflated):
        gunzip(one * 3, LIMIT)


def test_all_blocks_of_a_snappy_stream_count() -> None:
    stream = aiokafka.codec.snappy_encode(bytes(1_900_000))
    assert unsnappy(stream, LIMIT) == bytes(1_900_000)
    with pytest.raises(Inflated):
        unsnappy(stream, 1_899_999)


def test_every_decoder_that_the_client_calls_is_replaced() -> None:
    """A new one in a later version of the client would go past the limit."""
    for module in (pure, compiled):
        decoders = {name for name in vars(module) if name.endswith("_decode")}
        assert decoders == {"gzip_decode", "lz4_decode", "snappy_decode", "zstd_decode"}
        assert {getattr(module, name).__module__ for name in decoders} == {limit_inflation.__module__}
    assert DECODING == ("default_records", "legacy_records")
