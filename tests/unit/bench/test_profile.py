"""Which stage a sample belongs to."""

import pytest

from bench.profile import LOOP, STAGES, by_stage

BELOW = "<module> (bench/ours.py:180);run (streamproc/service.py:50);run (asyncio/runners.py:118);"


@pytest.mark.parametrize(
    ("frames", "stage"),
    [
        ("run (streamproc/stream/source.py:41);decode (streamproc/stream/decode.py:39)", "checks of what was decoded"),
        ("decode (streamproc/stream/decode.py:37);open_kinesis (streamproc/stream/envelope.py:102)", "envelopes"),
        ("decode (streamproc/stream/decode.py:37);_parse (streamproc/stream/decode.py:76)", "events"),
        ("poll (streamproc/adapters/kafka.py:90);getmany (aiokafka/consumer/consumer.py:1197)", "fetches"),
        ("getmany (aiokafka/consumer/consumer.py:1);_batches (streamproc/adapters/kafka_batches.py:9)", "values out"),
        ("_work_on_batches (streamproc/stream/execute.py:99);count (bench/ours.py:60)", "the functions"),
        ("_work_on_batches (streamproc/stream/execute.py:99);take (streamproc/core/batcher.py:60)", "engine"),
        ("_work_on_batches (streamproc/stream/execute.py:99)", "workers"),
        ("", LOOP),
    ],
)
def test_a_sample_counts_for_what_it_is_about(frames: str, stage: str) -> None:
    ((found, count),) = by_stage([f"{BELOW}{frames} 7"]).items()
    assert found.startswith(stage)
    assert found in (*STAGES, LOOP)
    assert count == 7


def test_imports_do_not_count() -> None:
    assert not by_stage(["<module> (bench/ours.py:8);_find_and_load (<frozen importlib._bootstrap>:1178) 900"])
