"""A bound on what one compressed batch may inflate to.

A fetch is limited in compressed bytes, and 10 kB on the wire can be 100 MB as records (with zstd, gigabytes). The
client decompresses whatever comes; here its decoders are replaced, for the whole process, by ones that stop at a
limit before they hold more than that.
"""

import struct
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

DECODING = ("default_records", "legacy_records")
ROOM, ROOM_MIN = 8, 65_536
"""Room that is made at first for what comes out, as a multiple of what goes in and in bytes; then as much again."""
XERIAL = b"\x82SNAPPY\0"
XERIAL_HEAD = 16


class Inflated(ValueError):
    """A batch is larger than the limit once it is decompressed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"it inflates to more than kafka.inflated_bytes_max = {limit} bytes")


def limit_inflation(limit: int) -> None:
    """Makes aiokafka, in this process, refuse batches that inflate to more than `limit` bytes."""
    decoders: dict[str, Callable[[Any], bytes]] = {
        "gzip_decode": lambda data: gunzip(bytes(data), limit),
        "snappy_decode": lambda data: unsnappy(bytes(data), limit),
        "lz4_decode": lambda data: _into_room("lz4", bytes(data), limit),
        "zstd_decode": lambda data: _into_room("zstd", bytes(data), limit),
    }
    for package in ("aiokafka.record", "aiokafka.record._crecords"):
        for name in DECODING:
            module = import_module(f"{package}.{name}")
            for decoder, bounded in decoders.items():
                if hasattr(module, decoder):
                    setattr(module, decoder, bounded)


def gunzip(data: bytes, limit: int) -> bytes:
    """Decompresses gzip, which may be several members in a row (RFC 1952). Raises Inflated, EOFError, zlib.error."""
    parts: list[bytes] = []
    left = limit + 1
    while data:
        member = zlib.decompressobj(wbits=31)
        parts.append(member.decompress(data, left))
        left -= len(parts[-1])
        if left <= 0:
            raise Inflated(limit)
        if not member.eof:
            raise EOFError("the compressed data ends too early")
        data = member.unused_data.lstrip(b"\0")
    return b"".join(parts)


def unsnappy(data: bytes, limit: int) -> bytes:
    """Decompresses snappy, raw or in the blocks of xerial's Java library. Raises Inflated, DecompressionError."""
    import cramjam

    blocks = list(_blocks(data)) if data.startswith(XERIAL) else [data]
    if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > limit:
        raise Inflated(limit)
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def _blocks(data: bytes) -> Any:
    at = XERIAL_HEAD
    while at < len(data):
        (size,) = struct.unpack_from("!i", data, at)
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def _into_room(codec: str, data: bytes, limit: int) -> bytes:
    import cramjam

    decode = getattr(cramjam, codec).decompress_into
    size = max(ROOM_MIN, ROOM * len(data))
    while True:
        room = bytearray(min(size, limit))
        try:
            return bytes(memoryview(room)[: decode(data, room)])
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise
        if size >= limit:
            raise Inflated(limit)
        size *= ROOM
