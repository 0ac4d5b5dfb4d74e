"""N pipelines of one process with one fate: when one cannot go on, all drain, and the cause is raised."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from streamproc.model import FunctionSnapshot, Snapshot, TopicPartition
from streamproc.stream.pipeline import Pipeline


class Pool:
    """Pipelines of one consumer group in one process."""

    def __init__(self, pipelines: Sequence[Pipeline]) -> None:
        self._pipelines = pipelines
        self._left: Sequence[str] | None = None

    async def run(self, stop: asyncio.Event, grace_s: float, failed: Callable[[BaseException], object]) -> bool:
        """Runs until `stop` is set, then drains within `grace_s` seconds.

        Returns False when calls still ran at the end of the grace: their records are delivered again. What makes it
        impossible for a pipeline to go on is told to `failed` at once, and raised after the others have drained.
        """
        running = [asyncio.ensure_future(pipeline.run()) for pipeline in self._pipelines]
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in running:
            if task.done() and (error := task.exception()) is not None:
                failed(error)
        drained = await asyncio.gather(*map(_end, self._pipelines, running, [grace_s] * len(running)))
        self._left = self.calling()  # next they are cancelled
        endings = await asyncio.gather(*running, return_exceptions=True)
        for ending in endings:
            if isinstance(ending, BaseException) and not isinstance(ending, asyncio.CancelledError):
                raise ending
        return all(drained)

    @property
    def reads(self) -> bool:
        """True if there is anything to read records for."""
        return bool(self._pipelines)

    def calling(self) -> Sequence[str]:
        """Returns the functions that are being called, each with its records; at the end those that did not end."""
        if self._left is not None:
            return self._left
        return [told for snapshot in self.snapshots() for told in calling(snapshot.functions)]

    def snapshots(self) -> Sequence[Snapshot]:
        """Frozen numbers of each pipeline."""
        return [pipeline.snapshot() for pipeline in self._pipelines]

    def trouble(self) -> str:
        """Returns what keeps a pipeline from reading that no partition shows; empty if nothing."""
        return next(filter(None, (pipeline.trouble() for pipeline in self._pipelines)), "")

    def silent_s(self) -> float:
        """Seconds since Kafka last answered, of the pipeline that waits longest."""
        return max((pipeline.silent_s() for pipeline in self._pipelines), default=0.0)

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """The end of each assigned partition, where known."""
        return {partition: end for pipeline in self._pipelines for partition, end in pipeline.end_offsets().items()}


def calling(functions: Sequence[FunctionSnapshot]) -> Sequence[str]:
    """Returns the functions that are being called, each with the number of records or requests in its calls."""
    return [f"{one.name} ({one.in_flight})" for one in functions if one.in_flight]


async def _end(pipeline: Pipeline, running: "asyncio.Future[None]", grace_s: float) -> bool:
    if running.done():
        return True
    if not pipeline.engine.epoch:  # it never had a partition, and may not even be connected
        running.cancel()
        return True
    return await pipeline.stop(grace_s)
