"""Bytewax: the Kafka operators and a step that gets each batch, on one worker, with recovery."""

import signal
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from bench.report import Meter, Task
from bench.work import Work


class Functions(Work):
    """The work for each record of a batch."""

    def call_all(self, messages: list[KafkaSourceMessage[bytes, bytes]]) -> list[None]:
        for message in messages:
            self.call(message.value)
        self.meter.add(len(messages))
        return []


class Nowhere(DynamicSink[None]):
    """A dataflow has to have an output; nothing comes to this one."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[None]:
        return Partition()


class Partition(StatelessSinkPartition[None]):
    def write_batch(self, items: list[None]) -> None:
        """Drops them."""


def dataflow(task: Task, functions: Functions) -> Dataflow:
    flow = Dataflow("bench")
    read = kop.input("read", flow, brokers=[task.bootstrap], topics=[task.topic])
    op.raises("fail", read.errs)
    op.output("end", op.flat_map_batch("call", read.oks, functions.call_all), Nowhere())
    return flow


if __name__ == "__main__":
    task = Task.from_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory() as folder:
        init_db_dir(Path(folder), 1)
        cli_main(
            dataflow(task, Functions(Meter(task))),
            epoch_interval=timedelta(seconds=10),
            recovery_config=RecoveryConfig(folder),
        )
