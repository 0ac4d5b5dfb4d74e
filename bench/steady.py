"""A producer at a steady rate: each tick a small batch for each partition. A process of its own, `--rate` records/s."""

import argparse
import asyncio
from itertools import islice
from time import monotonic

import uvloop
from aiokafka import AIOKafkaProducer

from bench.generate import Mix, records

TICK_S = 0.002
BATCH_RECORDS_MAX, BATCH_BYTES_MAX = 1_000, 900_000
"""What a stall has held up goes out in batches of this many; the broker takes 1 MB."""


async def main(options: argparse.Namespace) -> None:
    """Open loop: what is due is sent, however long the broker takes for what came before."""
    made = records(options.count, seed=1, mix=Mix(sensor=1.0, order=0.0, user=0.0, numbered=False))
    producer = AIOKafkaProducer(bootstrap_servers=options.bootstrap, acks="all", max_batch_size=BATCH_BYTES_MAX)
    await producer.start()
    try:
        began, sent, partition = monotonic(), 0, 0
        while sent < options.count:
            due = min(options.count, int((monotonic() - began) * options.rate))
            share = min(BATCH_RECORDS_MAX, -(-(due - sent) // options.partitions))
            while sent < due:
                batch = producer.create_batch()
                for record in islice(made, min(share, due - sent)):
                    batch.append(key=record.key, value=record.value, timestamp=None)
                sent += batch.record_count()
                await producer.send_batch(batch, options.topic, partition=partition)
                partition = (partition + 1) % options.partitions
            await asyncio.sleep(TICK_S)
        await producer.flush()
    finally:
        await producer.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "topic"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("rate", "count", "partitions"):
        parser.add_argument(f"--{name}", required=True, type=int)
    uvloop.run(main(parser.parse_args()))
