"""Prometheus metrics, read from snapshots when somebody scrapes; the record path touches none of this."""

import platform
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Literal, NamedTuple, get_args

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric as Family
from prometheus_client.core import Sample

from streamproc.model import SHORT_S, FunctionSnapshot, PartitionSnapshot, Reason, Snapshot, TopicPartition

LABEL_VALUES_MAX = 50
"""Values of a label that come from the application, at most; later ones are counted as `other`."""

_LABEL_VALUE = re.compile(r"[\w.:-]{1,100}", re.ASCII)


class Metric(NamedTuple):
    """One metric: its name as scraped, what it is, its labels and its help text."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    labels: tuple[str, ...]
    help: str


NAMES = {
    metric.name: metric
    for metric in (
        # Records: what became of them, what is being worked on. Event types without a function are `other`.
        Metric("streamproc_records_total", "counter", ("topic", "event_type", "outcome"), "Records by outcome."),
        Metric("streamproc_dlq_records_total", "counter", ("condition",), "Acknowledged dead letters."),
        Metric("streamproc_inflight_records", "gauge", (), "Records read and not yet settled."),
        Metric("streamproc_inflight_bytes", "gauge", (), "Bytes of the records in flight."),
        Metric("streamproc_oldest_inflight_seconds", "gauge", (), "Age of the oldest unsettled record, 0 without one."),
        # Functions. A call has one record or a batch.
        Metric("streamproc_handler_duration_seconds", "histogram", ("function",), "Duration of calls."),
        Metric("streamproc_batch_size_records", "histogram", ("function",), "Records per call."),
        Metric(
            "streamproc_abandoned_calls_total", "counter", ("function",), "Calls in threads that outlived their limit."
        ),
        # Lag: the true one is for autoscalers; the committed one may include records that are done.
        Metric("streamproc_backlog_records", "gauge", ("topic", "partition"), "True lag: end - done."),
        Metric("streamproc_committed_lag_records", "gauge", (), "End - committed, over all partitions."),
        Metric("streamproc_commit_gap_records", "gauge", (), "Settled, but not yet covered by a commit."),
        Metric(
            "streamproc_partition_blocked", "gauge", ("topic", "partition", "reason"), "1 while a partition stands."
        ),
        Metric("streamproc_last_progress_timestamp_seconds", "gauge", (), "The scrape that last saw a new outcome."),
        # The consumer group and the process.
        Metric("streamproc_rebalances_total", "counter", (), "Rebalances."),
        Metric("streamproc_rebalance_drain_seconds", "histogram", (), "How long calls were waited for."),
        Metric("streamproc_commit_failures_total", "counter", ("error",), "Failed commits."),
        Metric("streamproc_rereads_total", "counter", (), "Batches that came out of place and were read again."),
        Metric("streamproc_topics_recreated_total", "counter", ("topic",), "Topics deleted and made anew."),
        Metric("streamproc_event_loop_lag_seconds", "histogram", (), "How late the event loop came back."),
        Metric(
            "streamproc_http_requests_total", "counter", ("function", "status"), "Requests by status; 499: caller left."
        ),
        Metric("streamproc_http_request_duration_seconds", "histogram", ("function",), "Duration of calls."),
        Metric("streamproc_http_requests_in_flight", "gauge", ("function",), "Calls that run."),
        Metric("streamproc_outbox_published_total", "counter", (), "Events of the outbox the broker has."),
        Metric("streamproc_outbox_waiting_events", "gauge", (), "Events last seen waiting, by the active relay."),
        Metric("streamproc_outbox_refused_events", "gauge", (), "Events too large for the broker, set aside."),
        Metric("streamproc_outbox_relay_active", "gauge", (), "1 in the process that publishes."),
        Metric(
            "streamproc_schedule_firings_total",
            "counter",
            ("schedule", "state"),
            "Firings this process claimed: due, skipped or missed.",
        ),
        Metric("streamproc_schedule_next_timestamp_seconds", "gauge", ("schedule",), "When it is due next."),
        Metric("streamproc_build_info", "info", ("version", "python"), "What runs."),
    )
}
"""Every metric of this package, by its name."""


class Bounded:
    """Keeps a label's values few: those known in advance, and the first others that look like names."""

    def __init__(self, known: Sequence[str] = ()) -> None:
        self._known = frozenset(known)
        self._others: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value, or `other`."""
        if value in self._known or value in self._others:
            return value
        if len(self._others) >= LABEL_VALUES_MAX or not _LABEL_VALUE.fullmatch(value):
            return "other"
        self._others.add(value)
        return value


class Durations:
    """Durations counted as a FunctionSnapshot counts those of calls: bucket i holds less than 2**i times `SHORT_S`."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * 32
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Counts one."""
        self.counts[min(int(seconds / SHORT_S).bit_length(), 31)] += 1
        self.sum_s += seconds


class Metrics:
    """Counts the rare facts (port Observer)."""

    def __init__(self) -> None:
        self.drains = Durations()
        self.lags = Durations()
        self.commit_failures: Counter[tuple[str, ...]] = Counter()
        self.abandoned: Counter[tuple[str, ...]] = Counter()
        self.recreated: Counter[tuple[str, ...]] = Counter()
        self._error = Bounded()

    def rebalanced(self, drain_s: float) -> None:
        """A rebalance took partitions away; their calls were waited for this long."""
        self.drains.add(drain_s)

    def commit_failed(self, error: str) -> None:
        """A commit was not acknowledged; `error` is the type name."""
        self.commit_failures[(self._error(error),)] += 1

    def topic_recreated(self, topic: str) -> None:
        """A topic was deleted and made anew."""
        self.recreated[(topic,)] += 1

    def loop_lagged(self, seconds: float) -> None:
        """The event loop came back this much late."""
        self.lags.add(seconds)

    def call_abandoned(self, function: str) -> None:
        """A call in a thread ran over its limit and could not be stopped."""
        self.abandoned[(function,)] += 1


def registry(
    metrics: Metrics,
    snapshots: Callable[[], Sequence[Snapshot]],
    *,
    end_offsets: Callable[[], Mapping[TopicPartition, int]],
    now: Callable[[], float] = time.time,
) -> CollectorRegistry:
    """A registry of all metrics of this process, and of its CPU time, memory and file descriptors."""
    found = CollectorRegistry()
    found.register(_Collector(metrics, snapshots, end_offsets=end_offsets, now=now))
    ProcessCollector(registry=found)
    return found


class _Collector:
    """Makes the families at scrape, from the snapshots of all pipelines of the process together."""

    def __init__(
        self,
        metrics: Metrics,
        snapshots: Callable[[], Sequence[Snapshot]],
        *,
        end_offsets: Callable[[], Mapping[TopicPartition, int]],
        now: Callable[[], float],
    ) -> None:
        self._metrics = metrics
        self._snapshots = snapshots
        self._end_offsets = end_offsets
        self._now = now
        self._condition = Bounded((*get_args(Reason), "RetryAttemptsExhausted", "MaximumRecordAgeExceeded"))
        self._outcomes = 0
        self._progress_at = now()

    def collect(self) -> Iterator[Family]:
        """All families, each once."""
        snapshots = self._snapshots()
        partitions = [one for snapshot in snapshots for one in snapshot.partitions]
        yield from self._records(snapshots)
        yield from _functions([one for snapshot in snapshots for one in snapshot.functions])
        yield from _lag(partitions, self._end_offsets())
        yield from self._times(partitions)
        yield from _rare(self._metrics)

    def _records(self, snapshots: Sequence[Snapshot]) -> Iterator[Family]:
        records: Counter[tuple[str, ...]] = Counter()
        letters: Counter[tuple[str, ...]] = Counter()
        for snapshot in snapshots:
            records.update(snapshot.records)
            for condition, count in snapshot.dead_letters.items():
                letters[(self._condition(condition),)] += count
        if records.total() != self._outcomes:
            self._outcomes, self._progress_at = records.total(), self._now()
        yield plain("streamproc_records_total", records)
        yield plain("streamproc_dlq_records_total", letters)
        yield plain("streamproc_rereads_total", {(): sum(one.rereads for one in snapshots)})
        yield plain("streamproc_inflight_records", {(): sum(one.in_flight_records for one in snapshots)})
        yield plain("streamproc_inflight_bytes", {(): sum(one.in_flight_bytes for one in snapshots)})

    def _times(self, partitions: Sequence[PartitionSnapshot]) -> Iterator[Family]:
        now = self._now()
        oldest = min((one.oldest_since for one in partitions if one.oldest_since), default=now)
        yield plain("streamproc_oldest_inflight_seconds", {(): max(0.0, now - oldest)})
        yield plain("streamproc_last_progress_timestamp_seconds", {(): self._progress_at})


def _lag(partitions: Sequence[PartitionSnapshot], ends: Mapping[TopicPartition, int]) -> Iterator[Family]:
    known = [(one, ends[one.partition]) for one in partitions if one.partition in ends]
    backlog = {tuple(map(str, one.partition)): max(0, end - one.done) for one, end in known}
    blocked = {(*map(str, one.partition), one.blocked): 1 for one in partitions if one.blocked}
    gap = sum(max(0, one.admitted - one.committed - one.unsettled) for one in partitions)
    yield plain("streamproc_backlog_records", backlog)
    yield plain("streamproc_committed_lag_records", {(): sum(max(0, end - one.committed) for one, end in known)})
    yield plain("streamproc_commit_gap_records", {(): gap})
    yield plain("streamproc_partition_blocked", blocked)


def _functions(functions: Sequence[FunctionSnapshot]) -> Iterator[Family]:
    durations, sizes = family_of("streamproc_handler_duration_seconds"), family_of("streamproc_batch_size_records")
    for name in dict.fromkeys(one.name for one in functions):
        same = [one for one in functions if one.name == name]
        calls = Durations()
        calls.counts = _added([one.calls for one in same])
        calls.sum_s = sum(one.calls_sum_s for one in same)
        add_durations(durations, calls, labels={"function": name})
        # A bucket holds what is below 2**i: of whole numbers, those up to 2**i - 1.
        bounds = {i: 2**i - 1 for i in range(1, 15)}
        labels = {"function": name}
        _add_buckets(sizes, _added([one.batch_records for one in same]), bounds=bounds, labels=labels)
        sizes.samples.append(Sample(f"{sizes.name}_sum", labels, sum(one.batch_records_sum for one in same)))
    yield durations
    yield sizes


def _added(histograms: Sequence[Sequence[int]]) -> list[int]:
    return [sum(bucket) for bucket in zip_longest(*histograms, fillvalue=0)]


def add_durations(family: Family, durations: Durations, *, labels: dict[str, str]) -> None:
    """Adds the samples of a histogram."""
    # What took more than two minutes shares a bucket.
    bounds = {i: 2**i * 64 / 1e6 for i in range(22)}
    _add_buckets(family, durations.counts, bounds=bounds, labels=labels)
    family.samples.append(Sample(f"{family.name}_sum", labels, durations.sum_s))


def _add_buckets(family: Family, counts: Sequence[int], *, bounds: Mapping[int, float], labels: dict[str, str]) -> None:
    below = {f"{bound:g}": sum(counts[: last + 1]) for last, bound in bounds.items()}
    for bound, count in {**below, "+Inf": sum(counts)}.items():
        family.samples.append(Sample(f"{family.name}_bucket", {**labels, "le": bound}, count))
    family.samples.append(Sample(f"{family.name}_count", labels, sum(counts)))


def _rare(metrics: Metrics) -> Iterator[Family]:
    drains, lags = family_of("streamproc_rebalance_drain_seconds"), family_of("streamproc_event_loop_lag_seconds")
    add_durations(drains, metrics.drains, labels={})
    add_durations(lags, metrics.lags, labels={})
    yield drains
    yield lags
    yield plain("streamproc_rebalances_total", {(): sum(metrics.drains.counts)})
    yield plain("streamproc_commit_failures_total", metrics.commit_failures)
    yield plain("streamproc_abandoned_calls_total", metrics.abandoned)
    yield plain("streamproc_topics_recreated_total", metrics.recreated)
    yield plain("streamproc_build_info", {(_version(), platform.python_version()): 1})


def plain(name: str, values: Mapping[tuple[str, ...], float]) -> Family:
    """A family whose samples are values by the values of its labels."""
    family, labels = family_of(name), NAMES[name].labels
    family.samples += [Sample(name, dict(zip(labels, key, strict=True)), value) for key, value in values.items()]
    return family


def family_of(name: str) -> Family:
    """A family without samples."""
    kind = NAMES[name].kind
    suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
    return Family(name.removesuffix(suffix), NAMES[name].help, kind)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("streamproc")
    except PackageNotFoundError:
        return "unknown"
