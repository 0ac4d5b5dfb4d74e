"""Why Kafka cannot be reached, said in one sentence."""

import asyncio
import socket

import pytest

from streamproc.adapters.broker_files import free_port
from streamproc.adapters.kafka_client import KafkaOptions, LoginRefused, unreachable
from streamproc.adapters.kafka_reach import reach
from streamproc.errors import BrokerError, ConfigError


async def complaint(*servers: str) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        await reach(KafkaOptions(bootstrap_servers=list(servers)), within_s=0.2)
    return caught.value


async def test_nobody_who_listens() -> None:
    address = f"127.0.0.1:{free_port()}"
    error = await complaint(address)
    assert str(error) == f"Kafka at {address} did not answer: ConnectionRefusedError"
    assert not isinstance(error, ConfigError)


async def test_somebody_who_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert str(await complaint(address)) == f"Kafka at {address} did not answer: TimeoutError"


async def test_somebody_who_is_not_kafka() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert str(await complaint(address)).startswith(f"Kafka at {address} did not answer: ")


def test_a_refused_login_is_both_the_brokers_answer_and_a_wrong_setting() -> None:
    from aiokafka.errors import SaslAuthenticationFailed

    options = KafkaOptions(sasl_username="shop", sasl_password="secret")
    error = unreachable(options, SaslAuthenticationFailed("secret"))
    assert isinstance(error, LoginRefused)
    assert isinstance(error, BrokerError)
    assert isinstance(error, ConfigError)
    assert str(error) == "Kafka at localhost:9092 refuses user 'shop': SaslAuthenticationFailed"
