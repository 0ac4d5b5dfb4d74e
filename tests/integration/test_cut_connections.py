"""Connections that end at any moment under a client: each of its tasks goes on, on a new one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from streamproc.adapters.kafka import KafkaConsumer
from streamproc.adapters.kafka_producer import KafkaProducer
from streamproc.model import OutRecord
from tests.contract.worlds import Kafka, Member

pytestmark = pytest.mark.broker

CUTS = 30
"""Enough for each task of a client to meet some."""


@pytest.fixture(params=[True, False], ids=["record batches", "record by record"])
async def world(request: pytest.FixtureRequest, bootstrap: str) -> Kafka:
    found = Kafka(bootstrap, record_batches=request.param)
    await found.make()
    return found


@pytest.fixture
async def member(world: Kafka) -> AsyncIterator[Member]:
    found = Member(world.consumer(group="g"))
    yield await found.start()
    await found.consumer.stop()


@pytest.fixture
async def producer(world: Kafka) -> AsyncIterator[KafkaProducer]:
    made = KafkaProducer(world.options)
    await made.start()
    yield made
    await made.stop()


def cut(client: Any) -> Callable[[], bool]:
    """Resets the connection of each of the client's next requests right before it is sent; says whether that is over.

    The transport is closed then, and the client's reader has not run to hear of it.
    """
    sound, left = client._get_conn, CUTS

    async def get(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        connection = await sound(*arguments, **named)
        if connection is not None and left:
            left -= 1
            await reset(connection._writer.transport)
        return connection

    client._get_conn = get
    client.force_metadata_update()
    return lambda: not left


async def test_a_consumer_reads_on(world: Kafka, member: Member, producer: KafkaProducer) -> None:
    consumer = member.consumer
    assert isinstance(consumer, KafkaConsumer)
    await send(producer, world.topic)
    await member.poll_until(lambda: member.count() == 1)
    await consumer.commit(member.next_offsets)
    await member.poll_until(cut(consumer._client._client))
    await world.grow(3)  # which only a client with new metadata sees
    await member.poll_until(lambda: len(member.assigned) == 3)
    await send(producer, world.topic)
    await member.poll_until(lambda: member.count() == 2)
    await consumer.commit(member.next_offsets)


async def test_a_producer_sends_on(world: Kafka, producer: KafkaProducer) -> None:
    await send(producer, world.topic)
    assert producer._connection is not None
    is_over = cut(producer._connection._client.client)
    other = Kafka(world.options.bootstrap_servers[0])
    await other.make()  # which only a client with new metadata knows
    async with asyncio.timeout(60):
        while not (await sends(producer, other.topic) and is_over()):
            pass


async def reset(transport: asyncio.Transport) -> None:
    """Ends a connection as a reset by the other side does."""
    protocol = transport.get_protocol()
    sound = protocol.connection_lost
    protocol.connection_lost = lambda _: sound(ConnectionResetError("reset"))  # type: ignore[method-assign]
    transport.abort()
    await asyncio.sleep(0)


async def send(producer: KafkaProducer, topic: str) -> None:
    assert await producer.send([OutRecord(topic, b"x", b"k")]) == [None]


async def sends(producer: KafkaProducer, topic: str) -> bool:
    return list(await producer.send([OutRecord(topic, b"x", b"k")])) == [None]


async def test_a_producer_that_is_stopped_under_a_send_answers_it(producer: KafkaProducer) -> None:
    sending = asyncio.ensure_future(producer.send([OutRecord("there-is-none", b"x", b"k")]))
    await asyncio.sleep(0.5)
    await producer.stop()
    (error,) = await sending
    assert "there-is-none" in str(error)
