"""Pyrallel Consumer in its async mode: up to 1,000 calls at once, in order per key."""

import asyncio
import signal

from pyrallel_consumer.config import KafkaConfig
from pyrallel_consumer.consumer import PyrallelConsumer
from pyrallel_consumer.dto import ExecutionMode, OrderingMode, WorkItem

from bench.report import Meter, Task
from bench.work import Work

IN_FLIGHT = 1_000
POLL = 30
"""A poll that goes past `IN_FLIGHT` makes it pause, which throws away what the client below had fetched ahead. Its
default, 1,000, nearly always does: this is five to ten times as fast."""
WAIT_S = 0.005


class Functions(Work):
    """The workers that do the work for a record."""

    async def record(self, item: WorkItem) -> None:
        self.call(item.payload)
        self.meter.add(1)

    async def waiting(self, item: WorkItem) -> None:
        self.meter.begin(item.key, item.offset)
        self.call(item.payload)
        await asyncio.sleep(WAIT_S)
        self.meter.end(item.key)
        self.meter.add(1)


def configuration(task: Task) -> KafkaConfig:
    config = KafkaConfig(BOOTSTRAP_SERVERS=[task.bootstrap], CONSUMER_GROUP=task.group, AUTO_OFFSET_RESET="earliest")
    config.dlq_enabled = False
    config.parallel_consumer.ordering_mode = OrderingMode.KEY_HASH
    config.parallel_consumer.poll_batch_size = POLL
    config.parallel_consumer.execution.mode = ExecutionMode.ASYNC
    config.parallel_consumer.execution.max_in_flight = IN_FLIGHT
    return config


async def main(task: Task) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    functions = Functions(Meter(task, on_done=stop.set))
    worker = {"record": functions.record, "waiting": functions.waiting}[task.mode]
    consumer = PyrallelConsumer(configuration(task), worker, task.topic)
    await consumer.start()
    try:
        await stop.wait()
    finally:
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main(Task.from_arguments()))
