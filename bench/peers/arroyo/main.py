"""Arroyo: `RunTask` for each message, or for each batch of `BatchStep`; then `CommitOffsets`."""

import signal
from collections.abc import Mapping

from arroyo.backends.kafka import KafkaConsumer, KafkaPayload
from arroyo.backends.kafka.configuration import build_kafka_consumer_configuration
from arroyo.commit import ONCE_PER_SECOND
from arroyo.processing import StreamProcessor
from arroyo.processing.strategies import (
    BatchStep,
    CommitOffsets,
    ProcessingStrategy,
    ProcessingStrategyFactory,
    RunTask,
)
from arroyo.processing.strategies.batching import ValuesBatch
from arroyo.types import Commit, Message, Partition, Topic

from bench.report import Meter, Task
from bench.work import Work

QUEUED_MIN_MESSAGES = 100_000
"""How many messages the client below fetches ahead: its own default, which Arroyo lowers to 10,000."""
QUEUE_BACKOFF_MS = 10
"""How long the client waits when it has fetched that many. Its default of a second is longer than they last."""
BATCH = 1_000
BATCH_TIME_S = 0.1


class Functions(ProcessingStrategyFactory[KafkaPayload]):
    """The strategy that does the work for each message."""

    def __init__(self, meter: Meter, mode: str) -> None:
        self._meter = meter
        self._mode = mode
        self._call = Work(meter).call

    def create_with_partitions(
        self, commit: Commit, partitions: Mapping[Partition, int]
    ) -> ProcessingStrategy[KafkaPayload]:
        strategies = {"record": self._record, "batch": self._batch}
        return strategies[self._mode](CommitOffsets(commit))

    def _record(self, then: CommitOffsets) -> ProcessingStrategy[KafkaPayload]:
        def task(message: Message[KafkaPayload]) -> None:
            self._call(message.payload.value)
            self._meter.add(1)

        return RunTask(task, then)

    def _batch(self, then: CommitOffsets) -> ProcessingStrategy[KafkaPayload]:
        def task(message: Message[ValuesBatch[KafkaPayload]]) -> None:
            for value in message.payload:
                self._call(value.payload.value)
            self._meter.add(len(message.payload))

        return BatchStep(BATCH, BATCH_TIME_S, RunTask(task, then))


def main(task: Task) -> None:
    configuration = build_kafka_consumer_configuration(
        default_config={},
        bootstrap_servers=[task.bootstrap],
        group_id=task.group,
        auto_offset_reset="earliest",
        queued_min_messages=QUEUED_MIN_MESSAGES,
        override_params={"fetch.queue.backoff.ms": QUEUE_BACKOFF_MS},
    )
    processor = StreamProcessor(
        consumer=KafkaConsumer(configuration),
        topic=Topic(task.topic),
        processor_factory=Functions(Meter(task, on_done=lambda: processor.signal_shutdown()), task.mode),
        commit_policy=ONCE_PER_SECOND,
    )
    signal.signal(signal.SIGTERM, lambda *_: processor.signal_shutdown())
    processor.run()


if __name__ == "__main__":
    main(Task.from_arguments())
