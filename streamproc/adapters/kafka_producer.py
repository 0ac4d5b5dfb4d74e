"""The Producer port over aiokafka: idempotent, acknowledged by all in-sync replicas, with a deadline."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import aiokafka
from aiokafka import errors

from streamproc.adapters.kafka_client import KafkaOptions, client_options, unreachable
from streamproc.errors import BrokerError, RecordTooLarge
from streamproc.model import OutRecord

log = logging.getLogger(__name__)

SEND_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0
REQUEST_BYTES_MAX = 64 * 1024 * 1024
"""No limit of ours: the broker's own decides."""


class KafkaProducer:
    """Sends records and waits for the broker. After an error of its sequence or a missed deadline it starts anew."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._client: aiokafka.AIOKafkaProducer | None = None
        self._restart = asyncio.Lock()

    async def start(self) -> None:
        """See the port."""
        await self._connected()

    async def _connected(self) -> aiokafka.AIOKafkaProducer:
        async with self._restart:
            if self._client is None:
                client = aiokafka.AIOKafkaProducer(
                    **client_options(self._options),
                    enable_idempotence=True,
                    acks="all",
                    max_request_size=REQUEST_BYTES_MAX,
                )
                try:
                    await client.start()
                except errors.KafkaError as error:
                    await _close(client)
                    raise unreachable(self._options, error) from None
                self._client = client
            return self._client

    async def send(self, records: Sequence[OutRecord]) -> Sequence[BrokerError | None]:
        """See the port. Gives up after 5 s; what was on its way then may still arrive."""
        if not records:
            return []
        try:
            client = await self._connected()
        except BrokerError as error:
            return [error] * len(records)
        sends = [asyncio.ensure_future(_send(client, record)) for record in records]
        _, late = await asyncio.wait(sends, timeout=SEND_TIMEOUT_S)
        results = [_result(sent, record.topic) for sent, record in zip(sends, records, strict=True)]
        broken = any(isinstance(result, BrokerError) and not isinstance(result, RecordTooLarge) for result in results)
        if late or broken:
            await self._discard(client)
        for sent in late:
            sent.cancel()
        return results

    async def _discard(self, client: aiokafka.AIOKafkaProducer) -> None:
        if self._client is client:
            self._client = None
            await _close(client)

    async def stop(self) -> None:
        """See the port."""
        if self._client is not None:
            await self._discard(self._client)


async def _send(client: aiokafka.AIOKafkaProducer, record: OutRecord) -> None:
    acknowledged = await client.send(
        record.topic,
        record.value,
        record.key,
        record.partition,
        record.timestamp,
        list(record.headers),
    )
    await acknowledged


def _result(sent: "asyncio.Future[None]", topic: str) -> BrokerError | None:
    if not sent.done():
        return BrokerError(f"topic {topic}: no acknowledgement within {SEND_TIMEOUT_S:g} s")
    if sent.cancelled():
        return BrokerError(f"topic {topic}: the send was cancelled")
    error = sent.exception()
    if error is None:
        return None
    if isinstance(error, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError):
        return RecordTooLarge(f"topic {topic}: {type(error).__name__}")
    return BrokerError(f"topic {topic}: {type(error).__name__}")


async def _close(client: aiokafka.AIOKafkaProducer) -> None:
    stopping = asyncio.ensure_future(client.stop())
    done, late = await asyncio.wait([stopping], timeout=STOP_TIMEOUT_S)
    for task in late:
        log.warning("the Kafka producer did not stop within %g s and is left behind", STOP_TIMEOUT_S)
        task.cancel()
    for task in done:
        with suppress(errors.KafkaError):
            task.result()
