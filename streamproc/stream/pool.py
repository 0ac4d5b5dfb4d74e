"""N pipelines of one process with one fate: when one cannot go on, all drain, and the cause is raised."""

import asyncio
from collections.abc import Mapping, Sequence

from streamproc.model import Snapshot, TopicPartition
from streamproc.stream.pipeline import Pipeline


class Pool:
    """Pipelines of one consumer group in one process."""

    def __init__(self, pipelines: Sequence[Pipeline]) -> None:
        self._pipelines = pipelines

    async def run(self, stop: asyncio.Event, grace_s: float) -> bool:
        """Until `stop` is set, then drains within `grace_s` seconds.

        False when calls still ran at the end of the grace: their records are delivered again. Raises what made a
        pipeline impossible to go on, after the others have drained.
        """
        running = [asyncio.ensure_future(pipeline.run()) for pipeline in self._pipelines]
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        drained = await asyncio.gather(
            *(
                pipeline.stop(grace_s)
                for pipeline, task in zip(self._pipelines, running, strict=True)
                if not task.done()
            )
        )
        endings = await asyncio.gather(*running, return_exceptions=True)
        for ending in endings:
            if isinstance(ending, BaseException):
                raise ending
        return all(drained)

    @property
    def reads(self) -> bool:
        """Whether there is anything to read records for."""
        return bool(self._pipelines)

    def snapshots(self) -> Sequence[Snapshot]:
        """Frozen numbers of each pipeline."""
        return [pipeline.snapshot() for pipeline in self._pipelines]

    def silent_s(self) -> float:
        """Seconds since Kafka last answered, of the pipeline that waits longest."""
        return max((pipeline.silent_s() for pipeline in self._pipelines), default=0.0)

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """The end of each assigned partition, where known."""
        return {partition: end for pipeline in self._pipelines for partition, end in pipeline.end_offsets().items()}
