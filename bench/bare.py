"""The yardstick: aiokafka's `getmany`, and nothing else. It decodes nothing and commits nothing."""

import aiokafka
import uvloop

from bench.report import Meter, Task


async def main(task: Task) -> None:
    """Reads until it is ended."""
    meter = Meter(task)
    consumer = aiokafka.AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=task.bootstrap,
        group_id=task.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        while True:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                meter.add(len(records))
    finally:
        await consumer.stop()


if __name__ == "__main__":
    uvloop.run(main(Task.from_arguments()))
