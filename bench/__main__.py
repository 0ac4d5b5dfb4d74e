"""`python -m bench demo | run | show | profile | compare | peers | load`."""

import importlib
import json
import logging
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from bench.brokers import NO_KAFKA, Target, opened
from bench.contest import Results
from bench.scenario import Scenario, document, report, summary, write
from streamproc.errors import StreamprocError

RESULTS = Path(__file__).parent / "results"
SCENARIOS = (
    "throughput",
    "per_record",
    "waiting_handlers",
    "latency",
    "scaling",
    "sinks",
    "memory",
    "start",
    "sizes",
    "load",
    "requests",
    "stores",
    "outbox",
    "mail",
    "workflow",
    "pictures",
    "schedules",
)


@click.group()
def main() -> None:
    """The demo, the measurements and the load generator."""


def _scenario(name: str) -> Scenario:
    found: Scenario = importlib.import_module(f"bench.scenarios.{name}").SCENARIO
    return found


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(SCENARIOS), metavar="[SCENARIO]...")
@click.option("--quick", is_flag=True, help="Fewer records and rounds: a few minutes for all.")
@click.option("--bootstrap", default="", help="HOST:PORT of a cluster of yours; embedded when not given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line.")
@click.option("--results", default=RESULTS, type=click.Path(file_okay=False, path_type=Path), help="Folder for files.")
def run(names: tuple[str, ...], quick: bool, bootstrap: str, as_json: bool, results: Path) -> None:
    """Measure SCENARIO, or all of them in this order:
    throughput, per_record, waiting_handlers, latency, scaling, sinks, memory, start, sizes, load,
    requests, stores, outbox, mail, workflow, pictures, schedules.

    \b
    Example:
      python -m bench run throughput --quick
    """
    found: dict[str, Any] = {}
    scenarios = [_scenario(name) for name in names or SCENARIOS]
    on_kafka = any(scenario.on_kafka for scenario in scenarios)
    with _kafka(bootstrap) if on_kafka else nullcontext(NO_KAFKA) as target:
        for scenario in scenarios:
            chosen = target if scenario.on_kafka else NO_KAFKA
            found[scenario.name] = _measured(scenario, chosen, quick=quick, results=results)
    if as_json:
        click.echo(json.dumps({name: summary(one) for name, one in found.items()}))


@contextmanager
def _kafka(bootstrap: str) -> Iterator[Target]:
    """A cluster of the user's, or one that is started for the run."""
    with tempfile.TemporaryDirectory() as folder, opened(bootstrap or "embedded", Path(folder) / "kafka") as target:
        yield target


def _measured(scenario: Scenario, target: Target, *, quick: bool, results: Path) -> dict[str, Any]:
    """Runs a scenario; what it found by then is shown and kept also when it is broken off."""
    collected = Results()
    try:
        scenario.play(target, quick, collected)
    finally:
        found = document(scenario, collected, broker=target.name, quick=quick)
        if collected.rounds:
            click.echo(f"{report(scenario, found)}\nkept in {write(scenario, found, results)}\n")
    return found


@main.command()
@click.argument("scenario", type=click.Choice(["throughput", "per_record", "waiting_handlers"]))
@click.option("--bootstrap", default="", help="HOST:PORT of a cluster of yours; embedded when not given.")
@click.option(
    "--results", default=RESULTS, type=click.Path(file_okay=False, path_type=Path), help="Folder for the SVG."
)
def profile(scenario: str, bootstrap: str, results: Path) -> None:
    """Show where a record's time goes: a table, and a flame graph.

    \b
    Example:
      python -m bench profile throughput
    """
    from bench.profile import profile as profiled

    with _kafka(bootstrap) as target:
        click.echo(profiled(scenario, target, results))


@main.command()
def peers() -> None:
    """Set up the peers, and say which are ready."""
    from bench.contenders import all_peers

    for peer in all_peers():
        reason = peer.make_ready()
        click.echo(f"{peer.described['title']} {peer.described['version']}: {reason or 'ready'}")


@main.command()
@click.argument("results", default=RESULTS, type=click.Path(exists=True, file_okay=False, path_type=Path))
def show(results: Path) -> None:
    """Print the tables of a run again, from its folder of RESULTS."""
    for name in (name for name in SCENARIOS if (results / f"{name}.json").is_file()):
        click.echo(report(_scenario(name), json.loads((results / f"{name}.json").read_text())) + "\n")


@main.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
def compare(before: Path, after: Path) -> None:
    """Say what changed from one results file to another, beyond the noise."""
    from bench.compare import compare as compared

    click.echo(compared(before, after))


@main.command()
@click.option("--events", default=200_000, help="How many to publish.", show_default=True)
@click.option("--broker", default="auto", help="auto, embedded, docker, memory or HOST:PORT.", show_default=True)
@click.option("--keep", is_flag=True, help="Stay up, with the metrics, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line.")
@click.option("--seed", default=1, help="Which events.", show_default=True)
def demo(events: int, broker: str, keep: bool, as_json: bool, seed: int) -> None:
    """Run the application of handlers/ on a stream of events, and check what became of each."""
    from bench.demo import Demo

    sys.exit(Demo(events=events, broker=broker, keep=keep, as_json=as_json, seed=seed).run())


@main.command()
@click.option("--bootstrap", required=True, help="HOST:PORT of a broker.")
@click.option("--topic", default="events", help="Must exist.", show_default=True)
@click.option("--rate", default=50_000.0, help="Records per second.", show_default=True)
@click.option("--mix", default="sensor=0.7,order=0.2,user=0.1", help="Shares; the rest is bad.", show_default=True)
@click.option("--for", "duration", default="60s", help="How long: 90s, 10m, 1h.", show_default=True)
@click.option("--metrics", multiple=True, help="URL of a worker process's metrics, for end-to-end latency; repeatable.")
@click.option("--seed", default=1, help="Which events.", show_default=True)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="SVG file for latency over percentile.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line.")
def load(duration: str, mix: str, plot: Path | None, as_json: bool, **options: Any) -> None:
    """Publish events at a steady rate, to a cluster of yours, and measure what becomes of them.

    Latencies count from when a record was due, so that a stall shows in them and is not hidden by sending less.

    \b
    Example:
      python -m bench load --bootstrap localhost:9092 --rate 5000 --for 30s --metrics http://localhost:9464/metrics
    """
    from bench import load, load_report

    found = load.run(load.Plan(seconds=load.seconds_of(duration), mix=load.mix_of(mix), plot=plot, **options))
    click.echo(load_report.report(found))
    if plot:
        load_report.draw(found, plot)
    if as_json:
        click.echo(json.dumps(load_report.as_json(found)))
    if found.interrupted:
        sys.exit(130)


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells each retry on a topic that is still being made
    # Both unwind the stack, so that what was started is ended; SIGINT also where it was ignored at the start.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except StreamprocError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
