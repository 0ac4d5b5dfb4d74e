"""Metrics: what a scrape says of known snapshots, and that it never says more than a bounded number of things."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streamproc.adapters.prometheus import LABEL_VALUES_MAX, NAMES, Metrics, registry
from streamproc.adapters.prometheus_http import HttpCollector, OutboxCollector, ScheduleCollector
from streamproc.model import (
    FunctionSnapshot,
    HttpSnapshot,
    OutboxSnapshot,
    PartitionSnapshot,
    ScheduleSnapshot,
    Snapshot,
    TopicPartition,
)
from streamproc.ports import Observer

P0, P1 = TopicPartition("events", 0), TopicPartition("events", 1)
NOW = 1_800_000_000.0


def partition(where: TopicPartition = P0, **more: object) -> PartitionSnapshot:
    numbers: dict[str, object] = {
        "epoch": 1,
        "committed": 100,
        "done": 110,
        "admitted": 150,
        "unsettled": 30,
        "oldest_since": NOW - 5,
    }
    return PartitionSnapshot(where, **{**numbers, **more})  # type: ignore[arg-type]


def function(
    name: str, calls: dict[int, int], sum_s: float = 0.0, batches: dict[int, int] | None = None
) -> FunctionSnapshot:
    return FunctionSnapshot(
        name=name,
        waiting=0,
        in_flight=0,
        parked=0,
        calls=[calls.get(bucket, 0) for bucket in range(32)],
        calls_sum_s=sum_s,
        batch_records=[(batches or {}).get(bucket, 0) for bucket in range(32)],
        batch_records_sum=sum(2 ** (bucket - 1) * calls for bucket, calls in (batches or {}).items()),
    )


FULL = Snapshot(
    partitions=[partition(), partition(P1, blocked="not_authorized", oldest_since=0.0)],
    functions=[function("store", {1: 3, 31: 1}, 140.5, {1: 2, 9: 2})],
    records={("events", "order.placed", "ok"): 7, ("events", "other", "dead_lettered"): 1},
    dead_letters={"unknown_type": 1, "out_of_stock": 2},
    in_flight_records=60,
    in_flight_bytes=1234,
)
ENDS = {P0: 200, P1: 160}


def scraped(*snapshots: Snapshot, metrics: Metrics | None = None) -> CollectorRegistry:
    return registry(metrics or Metrics(), lambda: snapshots, end_offsets=lambda: ENDS, now=lambda: NOW)


def samples(found: CollectorRegistry) -> dict[str, float]:
    """Sample -> value, written as in the exposition."""
    lines = [line for line in generate_latest(found).decode().splitlines() if line.startswith("streamproc_")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def filled() -> Metrics:
    metrics = Metrics()
    metrics.rebalanced(0.5)
    metrics.rebalanced(1.0)
    metrics.commit_failed("CommitFailedError")
    metrics.loop_lagged(0.25)
    metrics.call_abandoned("resize")
    metrics.topic_recreated("events")
    return metrics


def test_the_list_of_names_and_the_exposition_of_all_collectors_agree() -> None:
    found = scraped(FULL, metrics=filled())
    answered = HttpSnapshot([function("find", {1: 3})], {"find": {200: 3}, "other": {404: 1}})
    found.register(HttpCollector(lambda: answered))
    found.register(OutboxCollector(lambda: OutboxSnapshot(1, 2, 3, active=True)))
    found.register(ScheduleCollector(lambda: ScheduleSnapshot({("daily", "due"): 1}, {"daily": NOW})))
    text = generate_latest(found).decode()
    families = [family for family in text_string_to_metric_families(text) if family.name.startswith("streamproc_")]
    shown = {}
    for family in families:
        suffix = "_total" if family.type == "counter" else ""
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        shown[family.name + suffix] = (family.type, labels, family.documentation)
    kinds = {"info": "gauge"}
    listed = {one.name: (kinds.get(one.kind, one.kind), set(one.labels), one.help) for one in NAMES.values()}
    assert shown == listed


def test_counters_and_gauges_of_one_pipeline() -> None:
    found = samples(scraped(FULL))
    assert found['streamproc_records_total{event_type="order.placed",outcome="ok",topic="events"}'] == 7
    assert found['streamproc_dlq_records_total{condition="out_of_stock"}'] == 2
    assert found["streamproc_inflight_records"] == 60
    assert found["streamproc_inflight_bytes"] == 1234
    assert found['streamproc_backlog_records{partition="0",topic="events"}'] == 200 - 110
    assert found['streamproc_backlog_records{partition="1",topic="events"}'] == 160 - 110
    assert found["streamproc_committed_lag_records"] == (200 - 100) + (160 - 100)
    assert found["streamproc_commit_gap_records"] == 2 * (150 - 100 - 30)
    assert found["streamproc_oldest_inflight_seconds"] == 5
    assert found['streamproc_partition_blocked{partition="1",reason="not_authorized",topic="events"}'] == 1
    assert not any("partition_blocked" in name and 'partition="0"' in name for name in found)


def test_an_end_that_is_not_known_or_behind_makes_no_false_lag() -> None:
    stale = partition(P1, done=170, committed=165)
    unknown = partition(TopicPartition("events", 2))
    found = samples(scraped(Snapshot(partitions=[stale, unknown])))
    assert found['streamproc_backlog_records{partition="1",topic="events"}'] == 0
    assert 'streamproc_backlog_records{partition="2",topic="events"}' not in found
    assert found["streamproc_committed_lag_records"] == 0


def test_nothing_in_flight_has_no_age() -> None:
    assert samples(scraped(Snapshot()))["streamproc_oldest_inflight_seconds"] == 0


def test_durations_of_calls_are_a_histogram_in_seconds() -> None:
    found = samples(scraped(FULL))
    name = "streamproc_handler_duration_seconds"
    assert found[f'{name}_bucket{{function="store",le="6.4e-05"}}'] == 0
    assert found[f'{name}_bucket{{function="store",le="0.000128"}}'] == 3
    assert found[f'{name}_bucket{{function="store",le="134.218"}}'] == 3
    assert found[f'{name}_bucket{{function="store",le="+Inf"}}'] == 4
    assert found[f'{name}_count{{function="store"}}'] == 4
    assert found[f'{name}_sum{{function="store"}}'] == 140.5


def test_records_per_call_are_a_histogram_of_whole_numbers() -> None:
    found = samples(scraped(FULL))
    name = "streamproc_batch_size_records"
    assert samples(scraped(FULL))[f'{name}_sum{{function="store"}}'] == 2 * 1 + 2 * 256
    assert found[f'{name}_bucket{{function="store",le="1"}}'] == 2
    assert found[f'{name}_bucket{{function="store",le="255"}}'] == 2
    assert found[f'{name}_bucket{{function="store",le="511"}}'] == 4
    assert found[f'{name}_count{{function="store"}}'] == 4


@pytest.mark.parametrize("suffix", ["handler_duration_seconds", "event_loop_lag_seconds", "batch_size_records"])
def test_buckets_rise_and_end_in_infinity(suffix: str) -> None:
    metrics = filled()
    found = samples(scraped(FULL, metrics=metrics))
    buckets = [value for name, value in found.items() if name.startswith(f"streamproc_{suffix}_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] > 0


def test_pipelines_of_one_process_are_added_up() -> None:
    other = Snapshot(
        partitions=[partition(P1, oldest_since=NOW - 60)],
        functions=[function("store", {7: 1}, 1.0), function("mail", {10: 2}, 2.0)],
        records={("events", "order.placed", "ok"): 3},
        dead_letters={"unknown_type": 1},
        in_flight_records=1,
    )
    first = Snapshot(partitions=[partition()], functions=FULL.functions, records=FULL.records, in_flight_records=60)
    found = samples(scraped(first, other))
    assert found['streamproc_records_total{event_type="order.placed",outcome="ok",topic="events"}'] == 10
    assert found['streamproc_handler_duration_seconds_count{function="store"}'] == 5
    assert found['streamproc_handler_duration_seconds_sum{function="store"}'] == 141.5
    assert found['streamproc_handler_duration_seconds_count{function="mail"}'] == 2
    assert found["streamproc_inflight_records"] == 61
    assert found["streamproc_oldest_inflight_seconds"] == 60


def test_rare_facts() -> None:
    observer: Observer = filled()
    assert isinstance(observer, Metrics)
    found = samples(scraped(metrics=observer))
    assert found["streamproc_rebalances_total"] == 2
    assert found["streamproc_rebalance_drain_seconds_sum"] == 1.5
    assert found["streamproc_rebalance_drain_seconds_count"] == 2
    assert found['streamproc_commit_failures_total{error="CommitFailedError"}'] == 1
    assert found["streamproc_event_loop_lag_seconds_sum"] == 0.25
    assert found['streamproc_event_loop_lag_seconds_bucket{le="0.262144"}'] == 1
    assert found['streamproc_event_loop_lag_seconds_bucket{le="0.131072"}'] == 0
    assert found['streamproc_abandoned_calls_total{function="resize"}'] == 1


def test_progress_is_when_the_outcomes_last_changed() -> None:
    clock, snapshot = [NOW], [FULL]
    found = registry(Metrics(), lambda: snapshot, end_offsets=dict, now=lambda: clock[0])
    name = "streamproc_last_progress_timestamp_seconds"
    assert samples(found)[name] == NOW
    clock[0] += 15
    assert samples(found)[name] == NOW
    snapshot[0] = Snapshot(records={("events", "order.placed", "ok"): 9})
    clock[0] += 15
    assert samples(found)[name] == NOW + 30
    clock[0] += 15
    assert samples(found)[name] == NOW + 30


HOSTILE = ["a\r\nb", "../etc", "\N{PILE OF POO}", "", "x" * 101, 'a"b{}', "a b"]


def test_conditions_are_bounded() -> None:
    snapshot = [Snapshot(dead_letters={f"reason_{number}": 1 for number in range(10_000)})]
    found = registry(Metrics(), lambda: snapshot, end_offsets=dict)
    first = {name for name in samples(found) if name.startswith("streamproc_dlq_records_total")}
    assert len(first) == LABEL_VALUES_MAX + 1
    assert samples(found)['streamproc_dlq_records_total{condition="other"}'] == 10_000 - LABEL_VALUES_MAX
    snapshot[0] = Snapshot(dead_letters={**dict.fromkeys(HOSTILE, 1), "json": 2, "RetryAttemptsExhausted": 3, "new": 4})
    later = samples(found)
    assert later['streamproc_dlq_records_total{condition="json"}'] == 2
    assert later['streamproc_dlq_records_total{condition="RetryAttemptsExhausted"}'] == 3
    assert later['streamproc_dlq_records_total{condition="other"}'] == len(HOSTILE) + 4


def test_names_of_errors_are_bounded() -> None:
    metrics = Metrics()
    for number in range(1_000):
        metrics.commit_failed(f"Error{number}")
    found = samples(scraped(metrics=metrics))
    failures = {name: value for name, value in found.items() if name.startswith("streamproc_commit_failures_total")}
    assert len(failures) == LABEL_VALUES_MAX + 1
    assert sum(failures.values()) == 1_000


def test_what_is_no_name_is_no_label() -> None:
    metrics = Metrics()
    for hostile in HOSTILE:
        metrics.commit_failed(hostile)
    assert dict(metrics.commit_failures) == {("other",): len(HOSTILE)}


def test_the_process_itself_is_measured_too() -> None:
    assert "process_cpu_seconds_total" in generate_latest(scraped()).decode()
