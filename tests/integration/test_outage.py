"""A broker that is killed and comes back: the service waits, says so, and goes on."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from streamproc.adapters.broker import start_broker
from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_topics import create_topics
from tests.integration.harness import Service, calls, check_order, get, publish, until
from tests.integration.shop import Step

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180), pytest.mark.usefixtures("reader")]


async def test_a_broker_that_comes_back_is_read_on(tmp_path: Path) -> None:
    steps = [Step(key=f"k{n % 50}", n=n // 50) for n in range(2_000)]

    def finished() -> int:
        return len({(call.key, call.n) for call in calls(tmp_path / "effects") if call.ended})

    with start_broker(data_dir=tmp_path / "kafka") as broker:
        await create_topics(KafkaOptions(bootstrap_servers=[broker.bootstrap]), {"steps": 2})
        with Service(tmp_path, broker.bootstrap, "steps") as service:
            address = await service.ready()
            await publish(broker.bootstrap, "steps", steps[:1_000])
            await until(lambda: finished() == 1_000, "the first half is handled")
            broker.kill()
            silent = "Kafka has not answered"
            await until(lambda: silent in get(f"http://{address}/readyz")[1], "the service says Kafka is silent")
            assert get(f"http://{address}/livez")[0] == 200
            broker.restart()
            await publish(broker.bootstrap, "steps", steps[1_000:])
            await until(lambda: finished() == 2_000, "the second half is handled")
            await until(lambda: get(f"http://{address}/readyz")[0] == 200, "the service is ready again")
            assert await service.stop() == 0
    check_order(calls(tmp_path / "effects"))


async def test_an_outage_of_a_minute_and_more_writes_some_lines(tmp_path: Path) -> None:
    steps = [Step(key=f"k{n % 50}", n=n // 50, fate="reject" if n % 10 == 0 else "ok") for n in range(4_000)]
    lost, back = "not ready: Kafka has not answered", "ready again"

    def told(text: str) -> int:
        return sum(text in str(entry["message"]) for entry in service.logged())

    with start_broker(data_dir=tmp_path / "kafka") as broker:
        await create_topics(KafkaOptions(bootstrap_servers=[broker.bootstrap]), {"steps": 4})
        with Service(tmp_path, broker.bootstrap, "steps", stream__consumers=2) as service:
            await service.ready()
            await publish(broker.bootstrap, "steps", steps)
            await until(lambda: len(calls(tmp_path / "effects")) > 100, "it is at work")
            before = len(service.logged())
            broker.kill()
            async with asyncio.timeout(150):
                while told(lost) < 2:
                    await asyncio.sleep(0.5)
            broker.restart()
            await until(lambda: told(back) == 1, "it says that Kafka is back")
            after = service.logged()[before:]
            assert await service.stop() == 0
    kinds = Counter((str(entry.get("logger")), str(entry["message"])[:60]) for entry in after)
    print(*kinds.items(), sep="\n")
    assert len(after) < 60, kinds
