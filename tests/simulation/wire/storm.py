"""A small storm: a producer and consumers of a group under drawn faults. `python -m ...storm SEED` prints its trace."""

import asyncio
import logging
import random
import sys
from collections.abc import Coroutine
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from tests.simulation.wire.cluster import Cluster
from tests.simulation.wire.faults import DrawnFaults, Rates
from tests.simulation.wire.run import run

RECORDS, PARTITIONS, MEMBERS = 200, 4, 3
TOPIC = "t"


def faults(rng: random.Random) -> DrawnFaults:
    """Draws some of everything."""
    return DrawnFaults(rng, Rates(slow=0.1, slow_answer=0.1, cut_before=0.02, cut_after=0.02, error=0.1, slow_s=0.5))


async def storm(cluster: Cluster) -> Cluster:
    """Plays it. Every record must be read once or more, and the end committed, when the faults are over."""
    logging.disable(logging.CRITICAL)
    cluster.create_topic(TOPIC, PARTITIONS)
    processes = [cluster.loop.process(f"w{number}") for number in range(MEMBERS)]
    read: set[tuple[int, int]] = set()
    for process in processes:
        process.start(consume(cluster, process.name, read))
    produced = cluster.loop.process("producer").start(produce(cluster))
    await asyncio.sleep(1.0)
    processes[0].freeze()
    cluster.move_coordinator("g", 1 + cluster.coordinator("g") % len(cluster.nodes), load_s=0.5)
    await asyncio.sleep(1.0)
    processes[1].kill()
    cluster.stop_node(1)
    await asyncio.sleep(2.0)
    processes[0].thaw()
    cluster.start_node(1)
    cluster.move_leader((TOPIC, 0), 1, told_after_s=1.0)
    acknowledged = await produced
    cluster.tell("faults end")
    assert isinstance(cluster.faults, DrawnFaults)
    cluster.faults.active = False
    async with asyncio.timeout(120):
        while not acknowledged <= read or any(
            cluster.group("g").offsets.get((TOPIC, n), (0, ""))[0] < cluster.log(TOPIC, n).end
            for n in range(PARTITIONS)
        ):
            await asyncio.sleep(0.1)
    return cluster


async def produce(cluster: Cluster) -> set[tuple[int, int]]:
    """Writes the records. Returns where they are, as they were acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, enable_idempotence=True, request_timeout_ms=5_000)
    await producer.start()
    found = set()
    for number in range(0, RECORDS, 5):
        sent = [await producer.send(TOPIC, b"%d" % n, partition=n % PARTITIONS) for n in range(number, number + 5)]
        found |= {(one.partition, one.offset) for one in await asyncio.gather(*sent)}
        await asyncio.sleep(0.01)
    await producer.stop()
    values = [record.value for _, record in cluster.records(TOPIC)]
    assert len(values) == len(set(values)) == RECORDS, "an idempotent producer writes each record once"
    return found


class Calm(ConsumerRebalanceListener):  # type: ignore[misc]
    """Keeps commits out of rebalances: one that waits behind a join arrives with an old generation and upsets all."""

    def __init__(self) -> None:
        self.committing = asyncio.Lock()
        self.assigned: set[Any] = set()

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Waits for a commit to end."""
        async with self.committing:
            self.assigned = set()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Lets commits pass."""
        self.assigned = set(assigned)


async def consume(cluster: Cluster, name: str, read: set[tuple[int, int]]) -> None:
    """Reads and commits, and begins anew after an error."""
    while True:
        listener = Calm()
        consumer = AIOKafkaConsumer(
            bootstrap_servers=cluster.bootstrap,
            group_id="g",
            client_id=name,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=1_000,
            request_timeout_ms=8_000,
            metadata_max_age_ms=5_000,
        )
        try:
            await consumer.start()
            consumer.subscribe([TOPIC], listener=listener)
            behind: dict[Any, int] = {}
            while True:
                for at, records in (await consumer.getmany(timeout_ms=200)).items():
                    read |= {(at.partition, record.offset) for record in records}
                    behind[at] = records[-1].offset + 1
                async with listener.committing:
                    behind = {at: offset for at, offset in behind.items() if at in listener.assigned}
                    if behind and await _tried(consumer.commit(behind)):
                        behind = {}
        except KafkaError:
            cluster.tell(f"{name} begins anew")
        finally:
            await _tried(consumer.stop())


async def _tried(something: Coroutine[Any, Any, Any]) -> bool:
    try:
        await asyncio.wait_for(something, 5.0)
    except (KafkaError, TimeoutError):
        return False
    return True


if __name__ == "__main__":
    print("\n".join(run(storm, seed=int(sys.argv[1]), faults=faults, nodes=3).story()))
