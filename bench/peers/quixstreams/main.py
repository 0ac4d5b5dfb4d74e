"""Quix Streams: an application with a streaming data frame, decoding with msgspec."""

import tempfile

import msgspec
from quixstreams import Application
from quixstreams.models import JSONDeserializer

from bench.report import Meter, Task
from bench.work import Envelope, Work


class Functions(Work):
    """The work for each envelope."""

    def update(self, envelope: Envelope) -> None:
        self.call_opened(envelope)
        self.meter.add(1)


def main(task: Task, state_dir: str) -> None:
    app = Application(
        broker_address=task.bootstrap,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        state_dir=state_dir,
        loglevel="WARNING",
    )
    meter = Meter(task, on_done=app.stop)
    topic = app.topic(task.topic, value_deserializer=JSONDeserializer(loads=msgspec.json.Decoder(Envelope).decode))
    app.dataframe(topic).update(Functions(meter).update)
    app.run()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Task.from_arguments(), folder)
