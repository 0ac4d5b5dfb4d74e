"""confluent-kafka without a framework: a loop around `consume`."""

from confluent_kafka import Consumer, KafkaException, Message

from bench.report import Meter, Task
from bench.work import Work

BATCH = 5_000
BATCH_WAIT_S = 0.1
LATENCY_BATCH = 500
LATENCY_WAIT_S = 0.005
QUEUE_BACKOFF_MS = 10
"""How long librdkafka leaves a partition alone once enough of it is read ahead; with its 1,000 a fast loop runs dry."""


def value_of(message: Message) -> bytes:
    if message.error():
        raise KafkaException(message.error())
    return message.value() or b""


def drop(consumer: Consumer, meter: Meter) -> None:
    while not meter.done:
        meter.add(len(consumer.consume(BATCH, BATCH_WAIT_S)))


def batch(consumer: Consumer, meter: Meter) -> None:
    call = Work(meter).call
    while not meter.done:
        messages = consumer.consume(BATCH, BATCH_WAIT_S)
        for message in messages:
            call(value_of(message))
        meter.add(len(messages))
        if messages:
            consumer.commit(asynchronous=True)


def latency(consumer: Consumer, meter: Meter) -> None:
    call = Work(meter).call
    while not meter.done:
        for message in consumer.consume(LATENCY_BATCH, LATENCY_WAIT_S):
            meter.note(message.timestamp()[1])
            call(value_of(message))
            consumer.store_offsets(message)
            meter.add(1)


def main(task: Task) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": task.bootstrap,
            "group.id": task.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": task.mode == "latency",
            "enable.auto.offset.store": task.mode != "latency",
            "fetch.queue.backoff.ms": QUEUE_BACKOFF_MS,
        }
    )
    consumer.subscribe([task.topic])
    try:
        {"drop": drop, "batch": batch, "latency": latency}[task.mode](consumer, Meter(task))
    finally:
        consumer.close()


if __name__ == "__main__":
    main(Task.from_arguments())
