"""The whole application on a stream of events, and an account of what became of each."""

import asyncio
import json
import secrets
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import nightly, uploads
from bench.brokers import Target, opened, say
from bench.generate import SKUS, STOCK, USERS, Produced, records
from bench.memory_demo import run_in_memory
from bench.publish import Shape, publish
from bench.serving import Service
from bench.sinks import Found, Stored, Verdict, judge, look, read_topic, share, waiting_events
from bench.systems import systems
from bench.table import Progress, table
from bench.visitors import SCOPES, Answers, Background, Visitors
from handlers.seed import seed
from handlers.services import open_services
from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_topics import create_topics
from streamproc.errors import BrokerError
from streamproc.http.auth import sign
from streamproc.http.options import AuthOptions
from streamproc.settings import load

PARTITIONS = 4
ROOT = Path(__file__).parents[1]
FOLDER = Path("data/demo")
PATIENCE_S = 600.0
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Demo:
    """One run. See `python -m bench demo --help`."""

    events: int
    broker: str
    keep: bool
    as_json: bool
    seed: int

    def run(self) -> int:
        """Returns the exit code: 0 only if the equation holds."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=FOLDER))
        try:
            return self._run_in(folder)
        except BrokerError:
            if not (folder / "service.log").exists():
                shutil.rmtree(folder)
            raise

    def _run_in(self, folder: Path) -> int:
        with opened(self.broker, folder / "kafka") as target:
            asyncio.run(_seed(folder))
            produced: list[Produced] = []
            began = time.monotonic()
            if target.bootstrap:
                run = self._on_kafka(target, folder, produced)
            else:
                letters, seconds = run_in_memory(_settings(folder, {}), self._records(produced), self.events)
                run = _Run(letters, seconds, {})
            found = look(folder / "shop.db", folder / "mail", letters=run.letters)
            verdict = judge(produced, found)
            report = _report(target, verdict, found, run)
            print(_text(report, verdict, found))
            say(f"everything is in {folder}; the whole demo took {time.monotonic() - began:.1f} s")
            if self.as_json:
                print(json.dumps(report))
            balanced = all(system["balanced"] for system in run.systems.values())
            return 0 if verdict.holds and balanced else 1

    def _records(self, produced: list[Produced]) -> Iterator[Produced]:
        for record in records(self.events, self.seed):
            produced.append(record)
            yield record

    def _on_kafka(self, target: Target, folder: Path, produced: list[Produced]) -> "_Run":
        names = _topics(own_broker=target.name.startswith("apache-kafka"))
        topics, options = (names["events"], names["files"]), KafkaOptions(bootstrap_servers=[target.bootstrap])
        asyncio.run(create_topics(options, dict.fromkeys((*topics, *map(_letters, topics)), PARTITIONS)))
        auth = AuthOptions(secret_file=str(folder / "secret"), development=True)
        (folder / "secret").write_text(secrets.token_hex(32))
        nightly.litter(folder)
        flags = {
            **_stores(folder),
            **nightly.folders(folder),
            "kafka.bootstrap_servers": target.bootstrap,
            "kafka.session_timeout_s": "6",
            "kafka.group_id": names["group"],
            "stream.topics": ",".join(topics),
            f"stream.formats.{names['files']}": "s3",
            "auth.secret_file": auth.secret_file,
            "auth.development": "true",
        }
        since_ms = time.time() * 1000
        answers, seconds = self._serve(folder, flags, topics, _tokens(auth), produced=produced)

        def read(topic: str) -> list[Stored]:
            return asyncio.run(read_topic(target.bootstrap, topic, since_ms=since_ms))

        letters = [letter for topic in topics for letter in read(_letters(topic))]
        return _Run(letters, seconds, systems(answers, folder, events=read(topics[0]), letters=letters))

    def _serve(
        self,
        folder: Path,
        flags: Mapping[str, str],
        topics: tuple[str, str],
        tokens: tuple[str, str],
        *,
        produced: list[Produced],
    ) -> tuple[Answers, float]:
        """Runs two workers, kills one, and fires the nightly task: what callers were answered, and how long it took."""
        bootstrap = flags["kafka.bootstrap_servers"]
        with Service(folder / "service-1.log", flags) as first, Service(folder / "service-2.log", flags) as second:
            for service in (first, second):
                service.wait_until_listening()
                say(f"a worker is up: API at http://{service.api_address}, /metrics at {service.metrics_address}")
            began = time.monotonic()
            visitors = Visitors([second.api_address, first.api_address], good=tokens[0], scopeless=tokens[1])
            visiting = Background(visitors.run)
            killing = Background(lambda: _kill_in_the_middle(second, visitors))
            asyncio.run(uploads.put_and_tell(bootstrap, topics[1], folder / "objects"))
            asyncio.run(publish(bootstrap, topics[0], self._records(produced), shape=Shape(PARTITIONS)))
            killing.wait()
            visiting.wait()
            _wait_until_done(first, folder, self.events + visitors.answers.events + uploads.NOTIFIED)
            seconds = time.monotonic() - began
            nightly.fire(folder, flags)
            say(f"{nightly.NAME} was fired, and has ended")
            if self.keep:
                _keep(first)
        return visitors.answers, seconds


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run left behind."""

    letters: Sequence[Stored]
    seconds: float
    systems: Mapping[str, Mapping[str, Any]]


def _kill_in_the_middle(service: Service, visitors: Visitors) -> None:
    """Kills a worker without a warning once it has settled records and half of the visitors were there."""
    while visitors.share < 0.5 or not sum(one["done"] for one in service.partitions()):
        service.check()
        time.sleep(LOOK_S)
    service.kill()
    say("one of the two workers was killed (SIGKILL); the other one goes on alone")


def _wait_until_done(service: Service, folder: Path, events: int) -> None:
    """Waits until everything is published, settled and committed, with a progress bar."""
    bar = Progress("handling", events)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        service.check()
        partitions = service.partitions()
        settled = len(partitions) == 2 * PARTITIONS and all(one["lag"] == 0 for one in partitions)
        bar.show(min(events - 1, sum(one["done"] for one in partitions)))
        if settled and sum(one["committed"] for one in partitions) >= events and not waiting_events(folder / "shop.db"):
            bar.show(events)
            return
        time.sleep(LOOK_S)
    raise BrokerError(f"not done within {PATIENCE_S:g} s")


def _keep(service: Service) -> None:
    """Stays up until Ctrl-C."""
    say(f"staying up: http://{service.metrics_address}/metrics and /debug/partitions; Ctrl-C ends it")
    try:
        signal.pause()
    except KeyboardInterrupt:
        say("")


def _tokens(auth: AuthOptions) -> tuple[str, str]:
    """Of a caller who may do everything, and of one who may nothing."""
    good, scopeless = (
        sign(auth, subject="visitor", scopes=scopes, lifetime_s=3_600, now=time.time()) for scopes in (SCOPES, ())
    )
    return good, scopeless


def _letters(topic: str) -> str:
    return f"{topic}.dlq"


def _topics(*, own_broker: bool) -> dict[str, str]:
    mark = "" if own_broker else f"-demo-{uuid.uuid4().hex[:8]}"
    return {"events": f"events{mark}", "files": f"{uploads.TOPIC}{mark}", "group": f"shop{mark}"}


def _stores(folder: Path) -> dict[str, str]:
    return {
        "store.url": f"sqlite:///{folder}/shop.db",
        "mail.directory": str(folder / "mail"),
        "objects.url": f"file:{folder}/objects",
    }


def _settings(folder: Path, flags: dict[str, str]) -> Any:
    return load(None, {}, flags={**_stores(folder), **flags}).settings


async def _seed(folder: Path) -> None:
    async with open_services(_settings(folder, {})) as services:
        await seed(services, users=USERS, skus=SKUS, quantity=STOCK)


def _report(target: Target, verdict: Verdict, found: Found, run: _Run) -> dict[str, Any]:
    return {
        "broker": target.name,
        "produced": verdict.produced,
        "handled": dict(verdict.handled),
        "dead_lettered": dict(verdict.dead_lettered),
        "filtered": verdict.filtered,
        "lost": verdict.lost,
        "duplicated": verdict.duplicated,
        "redelivered": verdict.redelivered,
        "systems": run.systems,
        "records_per_s": round(verdict.produced / run.seconds),
        "latency_ms": {
            "p50": round(share(found.latencies_ms, 0.5), 1),
            "p99": round(share(found.latencies_ms, 0.99), 1),
        },
        "seconds": round(run.seconds, 2),
    }


def _text(report: dict[str, Any], verdict: Verdict, found: Found) -> str:
    rows = [["handled", ""], *([f"  {kind}", f"{count:,}"] for kind, count in report["handled"].items())]
    rows += [
        ["dead letters", ""],
        *([f"  {reason}", f"{count:,}"] for reason, count in report["dead_lettered"].items()),
    ]
    rows += [
        ["emails written", f"{found.emails:,}"],
        ["pieces taken from stock", f"{found.pieces_taken:,}"],
        ["temperature alerts", f"{found.alerts:,}"],
        ["records/s", f"{report['records_per_s']:,}"],
        ["from event to stored, p50 / p99 ms", f"{report['latency_ms']['p50']:,} / {report['latency_ms']['p99']:,}"],
    ]
    handled, dead = sum(verdict.handled.values()), sum(verdict.dead_lettered.values())
    equation = (
        f"produced {verdict.produced:,} = handled {handled:,} + dead letters {dead:,} + filtered {verdict.filtered:,}"
    )
    checks = f"lost {verdict.lost}, duplicated {verdict.duplicated}, in the wrong sink {verdict.wrong}"
    checks += f" (handled again after the kill: {verdict.redelivered:,})" if verdict.redelivered else ""
    balances = [[name, _counts(system), _yes(system["balanced"])] for name, system in report["systems"].items()]
    systems_table = f"\n{table([['system', 'counted in its sinks', 'balanced'], *balances])}\n" if balances else ""
    holds = "holds" if verdict.holds else "DOES NOT HOLD"
    return (
        f"\n{report['broker']}\n{table(rows)}\n\n  {equation}\n  {checks}: the equation {holds}, counted in the sinks\n"
        f"{systems_table}"
    )


def _counts(system: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in system.items() if name != "balanced")


def _yes(holds: bool) -> str:
    return "yes" if holds else "NO"
