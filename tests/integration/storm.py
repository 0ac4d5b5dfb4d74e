"""A storm on a real Kafka: processes join and leave a group all the time while another client writes.

`python -m tests.integration.storm --seed N --seconds S` runs one and tells what came of it.

Nothing of what is judged is asked of the service: what was acknowledged is known from the delivery reports of
librdkafka, what was handled from a file that the functions write, commits and dead letters from the broker.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from statistics import median

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streamproc.adapters.broker import start_broker
from tests.integration.forked import Nursery
from tests.integration.harness import PATIENCE_S, Call, calls

APP = "tests.integration.shop"
RECORDS_A_SECOND = 2_500
KEYS = 300
PARTITIONS = 4
WORKERS_MAX = 12
"""Processes alive at a time. Most of them wait: the group lets one in when a heartbeat has told all others of it."""
TURN_S = 0.1, 0.5
"""How long after one has joined or left the next one does, at least and at most."""
KILLED = 0.0, 0.02, 0.05
"""The shares of SIGKILL among those that leave; the group stands for a session after each."""
ANY_LEAVES = 0.2
"""The share in which anyone leaves, and not who came last: somebody must be there for longer than a heartbeat takes to
tell of others, to see a rebalance from within."""
POLL_S = 0.005

Record = tuple[str, int]
"""The key, and which of its records it is."""


@dataclass(slots=True)
class Worker:
    """A process of the service."""

    pid: int
    log: Path
    told: signal.Signals | None = None
    told_at: float = 0.0
    code: int | None = None

    @property
    def listens(self) -> bool:
        """Whether it takes signals by now: it does before it says anything."""
        return self.log.exists() and self.log.stat().st_size > 0

    @property
    def fault(self) -> str:
        """What is wrong with its end, if anything."""
        name = f"worker {self.pid} ({self.log.name})"
        if self.told is None:
            return f"{name} ended by itself with exit code {self.code}"
        expected = -signal.SIGKILL if self.told == signal.SIGKILL else 0
        if self.code is None:
            return f"{name} has not ended {PATIENCE_S:g} s after {self.told.name}"
        return "" if self.code == expected else f"{name} ended with exit code {self.code} after {self.told.name}"


@dataclass(slots=True)
class Outcome:
    """What is known of a storm from outside."""

    folder: Path
    facts: dict[str, object]
    sent: set[Record] = field(default_factory=set)
    acknowledged: dict[Record, tuple[int, int]] = field(default_factory=dict)
    """Record -> partition and offset."""
    refused: int = 0
    turns: list[float] = field(default_factory=list)
    """When somebody joined or left."""
    workers: list[Worker] = field(default_factory=list)
    calls: Sequence[Call] = ()
    commits: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Partition -> committed offset and end, when all had ended."""
    dead_letters: int = 0
    generations: int = 0

    @property
    def lost(self) -> list[tuple[int, int, Record]]:
        """Partition, offset and name of each acknowledged record that was not handled, in order."""
        handled = {(call.key, call.n) for call in self.calls if call.ended}
        return sorted((*at, record) for record, at in self.acknowledged.items() if record not in handled)

    @property
    def out_of_order(self) -> dict[str, str]:
        """Key -> what shows that its order was broken."""
        killed = {worker.pid: worker.told_at for worker in self.workers if worker.told == signal.SIGKILL}
        return out_of_order(self.calls, killed)

    def faults(self) -> Iterator[str]:
        """Each promise that was not kept, in a line."""
        if lost := self.lost:
            per_partition = "; ".join(
                f"partition {partition}: offsets {spans(offset for _, offset, _ in of_partition)}"
                for partition, of_partition in groupby(lost, key=lambda one: one[0])
            )
            yield f"{len(lost)} acknowledged records were never handled, {lost[0][2]} the first; {per_partition}"
        if strange := {(call.key, call.n) for call in self.calls} - self.sent:
            yield f"{len(strange)} records were handled that were never sent: {min(strange)}"
        for key, problem in self.out_of_order.items():
            yield f"key {key}: {problem}"
        for partition, (committed, end) in self.commits.items():
            if committed != end:
                yield f"partition {partition}: commits reached {committed}, not the end {end}"
        if self.dead_letters:
            yield f"{self.dead_letters} dead letters"
        yield from filter(None, (worker.fault for worker in self.workers))
        if not self.calls or not self.turns:
            yield "it was no storm: nothing was handled, or nobody joined"

    def table(self) -> dict[str, object]:
        """The storm in numbers."""
        ended = Counter((call.key, call.n) for call in self.calls if call.ended)
        gaps = sorted(later - earlier for earlier, later in pairwise(self.turns)) or [0.0]
        told = Counter(worker.told for worker in self.workers)
        return {
            **self.facts,
            "joined": len(self.workers),
            "left by SIGTERM": told[signal.SIGTERM],
            "left by SIGKILL": told[signal.SIGKILL],
            "joins and leaves, ms apart": "{:.0f} to {:.0f}, median {:.0f}".format(
                *(1000 * one for one in (gaps[0], gaps[-1], median(gaps)))
            ),
            "generations of the group": self.generations,
            "acknowledged": len(self.acknowledged),
            "refused by the broker": self.refused,
            "handled": len(ended),
            "handled more than once": sum(count > 1 for count in ended.values()),
            "lost": len(self.lost),
            "keys out of order": len(self.out_of_order),
            "committed / end": ", ".join(f"{committed}/{end}" for committed, end in self.commits.values()),
            "dead letters": self.dead_letters,
        }


def out_of_order(found: Sequence[Call], killed: Mapping[int, float]) -> dict[str, str]:
    """Returns key -> the first thing that shows that its order was broken.

    Calls of a key never overlap, whatever process they are of, and those that ended for the first time are in the order
    of the records. `killed` says when processes were killed: a call that did not end there ended then.
    """
    by_key: dict[str, list[Call]] = defaultdict(list)
    for call in found:
        by_key[call.key].append(call)
    return {key: problem for key, of_key in by_key.items() if (problem := _problem(of_key, killed))}


def _problem(of_key: Sequence[Call], killed: Mapping[int, float]) -> str:
    for call in of_key:
        if not call.ended and call.pid not in killed:
            return f"a call of a process that was not killed did not end: {call}"
    for one, following in pairwise(of_key):
        if following.began < (one.ended or killed[one.pid]):
            return f"calls overlap: {one}, {following}"
    first = list(dict.fromkeys(call.n for call in of_key if call.ended))
    for one_n, following_n in pairwise(first):
        if following_n < one_n:
            return f"record {following_n} was first handled after record {one_n}"
    return ""


def spans(numbers: Iterable[int]) -> str:
    """Writes rising numbers as `3-5, 9`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


class Storm:
    """One storm: its seed decides who joins and leaves, when and how, and how the service reads."""

    def __init__(self, bootstrap: str, folder: Path, seed: int, seconds: float) -> None:
        self._bootstrap = bootstrap
        self._seconds = seconds
        self._random = random.Random(seed)
        self._kill_share = self._random.choice(KILLED)
        self._by_batches = self._random.random() < 0.5
        self._topic = f"storm-{time.time_ns()}"
        self._partitions = [TopicPartition(self._topic, number) for number in range(PARTITIONS)]
        self._next_n = Counter[str]()
        facts: dict[str, object] = {
            "seed": seed,
            "seconds": seconds,
            "reads": "record batches" if self._by_batches else "record by record",
            "share of SIGKILL": self._kill_share,
        }
        self.outcome = Outcome(folder, facts)
        self._effects = folder / "effects"

    def run(self) -> Outcome:
        """Storms, lets the group come to rest, ends all processes, and looks at what is left."""
        self._make_topics()
        with ExitStack() as stack:
            nursery = stack.enter_context(Nursery(APP, env={"EFFECTS": str(self._effects)}))
            # It sees the commits by the group's name, and joins when all have left, to be told the generation.
            eyes = Consumer(
                {"bootstrap.servers": self._bootstrap, "group.id": self._topic, "enable.auto.commit": False}
            )
            stack.callback(eyes.close)
            self._nursery, self._eyes = nursery, eyes
            self._rage()
            self._settle()
            for worker in self._alive():
                if worker.told is None:
                    self._tell(worker, signal.SIGTERM)
            self._until(lambda: not self._alive())
            self._look()
        return self.outcome

    def _make_topics(self) -> None:
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        made = admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (self._topic, f"{self._topic}.dlq")])
        for future in made.values():
            future.result()

    def _rage(self) -> None:
        producer = Producer(
            {"bootstrap.servers": self._bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 5}
        )
        began = time.monotonic()
        turn_at = began
        while (now := time.monotonic()) < began + self._seconds:
            for _ in range(int((now - began) * RECORDS_A_SECOND) - len(self.outcome.sent)):
                self._write(producer)
            producer.poll(POLL_S)
            if now >= turn_at and self._turn():
                turn_at = time.monotonic() + self._random.uniform(*TURN_S)
        producer.flush(PATIENCE_S)

    def _write(self, producer: Producer) -> None:
        key = f"k{self._random.randrange(KEYS)}"
        n = self._next_n[key]
        self._next_n[key] += 1
        self.outcome.sent.add((key, n))
        value = json.dumps({"type": "step", "key": key, "n": n})

        def report(error: KafkaError | None, message: Message) -> None:
            partition, offset = message.partition(), message.offset()
            if error is not None or partition is None or offset is None:
                self.outcome.refused += 1
            else:
                self.outcome.acknowledged[key, n] = (partition, offset)

        producer.produce(self._topic, value, key, on_delivery=report)

    def _turn(self) -> bool:
        """Lets one join or leave; False while neither can be."""
        alive = self._alive()
        present = [worker for worker in alive if worker.told is None and worker.listens]
        can_join, can_leave = len(alive) < WORKERS_MAX, len(present) > 1
        if not can_join and not can_leave:
            return False
        if can_join and (not can_leave or self._random.random() < 0.5):
            self._join()
        else:
            is_killed = self._random.random() < self._kill_share
            leaver = self._random.choice(present) if is_killed or self._random.random() < ANY_LEAVES else present[-1]
            self._tell(leaver, signal.SIGKILL if is_killed else signal.SIGTERM)
        self.outcome.turns.append(time.monotonic())
        return True

    def _join(self) -> None:
        settings = {
            "kafka.bootstrap_servers": self._bootstrap,
            "kafka.group_id": self._topic,
            "kafka.session_timeout_s": 6,
            "kafka.record_batches": str(self._by_batches).lower(),
            "stream.topics": self._topic,
            "stream.format": "json",
            "ops.listen": "127.0.0.1:0",
            "log.format": "json",
        }
        sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        log = self.outcome.folder / f"worker-{len(self.outcome.workers)}.log"
        pid = self._nursery.start(["run", f"{APP}:app", *sets], log)
        self.outcome.workers.append(Worker(pid, log))

    def _tell(self, worker: Worker, number: signal.Signals) -> None:
        os.kill(worker.pid, number)
        worker.told, worker.told_at = number, time.monotonic()

    def _alive(self) -> list[Worker]:
        for worker in self.outcome.workers:
            if worker.code is None:
                worker.code = self._nursery.exit_code(worker.pid)
        return [worker for worker in self.outcome.workers if worker.code is None]

    def _settle(self) -> None:
        """Waits until everything is committed, as long as commits go on."""
        if not [worker for worker in self._alive() if worker.told is None]:
            self._join()
        seen, stands_since = self._commits(), time.monotonic()
        while any(committed != end for committed, end in seen.values()):
            time.sleep(0.1)
            before, seen = seen, self._commits()
            if seen != before:
                stands_since = time.monotonic()
            elif time.monotonic() > stands_since + PATIENCE_S:
                break

    def _commits(self) -> dict[int, tuple[int, int]]:
        committed = {one.partition: one.offset for one in self._eyes.committed(self._partitions, timeout=PATIENCE_S)}
        return {one.partition: (committed[one.partition], self._end(one)) for one in self._partitions}

    def _end(self, partition: TopicPartition) -> int:
        found = self._eyes.get_watermark_offsets(partition, timeout=PATIENCE_S)
        assert found is not None, f"the broker did not tell the end of {partition.topic}-{partition.partition}"
        return found[1]

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _look(self) -> None:
        self.outcome.calls = calls(self._effects)
        self.outcome.commits = self._commits()
        letters = [TopicPartition(f"{self._topic}.dlq", number) for number in range(PARTITIONS)]
        self.outcome.dead_letters = sum(self._end(one) for one in letters)
        self._eyes.subscribe([self._topic])
        self._until(lambda: self._eyes.poll(0.1) is not None or bool(self._eyes.assignment()))
        told = self._eyes.consumer_group_metadata()  # opaque but for its head: CGMDv2:, the generation, names
        self.outcome.generations = int.from_bytes(told[7:11], "little")


def main() -> None:
    """Runs one storm by hand; exits with 1 where it found a fault."""
    parser = argparse.ArgumentParser(description="Run one storm and tell what came of it.")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--bootstrap", default="", help="host:port of a Kafka; one is started when not given")
    parser.add_argument("--folder", type=Path, help="where logs and effects are kept; a temporary one when not given")
    chosen = parser.parse_args()
    folder: Path = chosen.folder or Path(tempfile.mkdtemp(prefix="storm-"))
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        bootstrap = chosen.bootstrap
        if not bootstrap:
            bootstrap = stack.enter_context(start_broker(data_dir=folder / "kafka")).bootstrap
        outcome = Storm(bootstrap, folder, chosen.seed, chosen.seconds).run()
    for name, value in outcome.table().items():
        print(f"{name:28} {value}")
    faults = list(outcome.faults())
    print(*faults, f"logs and effects are in {folder}", sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
