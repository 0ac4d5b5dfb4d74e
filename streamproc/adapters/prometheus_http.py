"""Metrics of the HTTP functions, of the outbox and of the schedules, made at scrape from their snapshots."""

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric as Family

from streamproc.adapters.prometheus import Durations, add_durations, family_of, plain
from streamproc.model import HttpSnapshot, OutboxSnapshot, ScheduleSnapshot


class HttpCollector:
    """Requests by function and status. The functions are those of the app, so the series are bounded."""

    def __init__(self, snapshot: Callable[[], HttpSnapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        """All families, each once."""
        snapshot = self._snapshot()
        yield plain(
            "streamproc_http_requests_total",
            {
                (function, str(status)): count
                for function, answers in snapshot.answers.items()
                for status, count in answers.items()
            },
        )
        durations = family_of("streamproc_http_request_duration_seconds")
        for function in snapshot.functions:
            calls = Durations()
            calls.counts = list(function.calls)
            calls.sum_s = function.calls_sum_s
            add_durations(durations, calls, labels={"function": function.name})
        yield durations
        in_flight: dict[tuple[str, ...], float] = {
            (function.name,): function.in_flight for function in snapshot.functions
        }
        yield plain("streamproc_http_requests_in_flight", in_flight)


class OutboxCollector:
    """What the relay of this process did."""

    def __init__(self, snapshot: Callable[[], OutboxSnapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        """All families, each once."""
        snapshot = self._snapshot()
        yield plain("streamproc_outbox_published_total", {(): snapshot.published})
        yield plain("streamproc_outbox_waiting_events", {(): snapshot.waiting})
        yield plain("streamproc_outbox_refused_events", {(): snapshot.refused})
        yield plain("streamproc_outbox_relay_active", {(): int(snapshot.active)})


class ScheduleCollector:
    """What the scheduler of this process claimed, and what it waits for."""

    def __init__(self, snapshot: Callable[[], ScheduleSnapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        """All families, each once."""
        snapshot = self._snapshot()
        claimed: dict[tuple[str, ...], float] = dict(snapshot.claimed.items())
        yield plain("streamproc_schedule_firings_total", claimed)
        next_at: dict[tuple[str, ...], float] = {(name,): moment for name, moment in snapshot.next_at.items()}
        yield plain("streamproc_schedule_next_timestamp_seconds", next_at)
