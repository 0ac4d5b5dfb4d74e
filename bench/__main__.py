"""`python -m bench demo | run | compare | peers | load`."""

import importlib
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from bench.brokers import Target, opened
from bench.contest import Results
from bench.scenario import Scenario, document, report, summary, write
from streamproc.errors import StreamprocError

RESULTS = Path(__file__).parent / "results"
SCENARIOS = ("throughput", "per_record", "waiting_handlers", "latency")


@click.group()
def main() -> None:
    """The demo, the measurements and the load generator."""


def _scenario(name: str) -> Scenario:
    found: Scenario = importlib.import_module(f"bench.scenarios.{name}").SCENARIO
    return found


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(SCENARIOS), metavar="[SCENARIO]...")
@click.option("--quick", is_flag=True, help="Fewer records and rounds: at most three minutes for all.")
@click.option("--broker", default="auto", help="auto, embedded, docker or HOST:PORT.", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line.")
@click.option("--results", default=RESULTS, type=click.Path(file_okay=False, path_type=Path), help="Folder for JSON.")
def run(names: tuple[str, ...], quick: bool, broker: str, as_json: bool, results: Path) -> None:
    """Measure SCENARIO, or all: throughput, per_record, waiting_handlers, latency.

    \b
    Example:
      python -m bench run throughput --quick
    """
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, opened(broker, Path(folder) / "kafka") as target:
        if not target.bootstrap:
            raise click.ClickException("there is nothing to measure without a Kafka: say --broker HOST:PORT")
        for name in names or SCENARIOS:
            found[name] = _measured(_scenario(name), target, quick=quick, results=results)
    if as_json:
        click.echo(json.dumps({name: summary(one) for name, one in found.items()}))


def _measured(scenario: Scenario, target: Target, *, quick: bool, results: Path) -> dict[str, Any]:
    """Runs a scenario; what it found by then is shown and kept also when it is broken off."""
    collected = Results()
    try:
        scenario.play(target, quick, collected)
    finally:
        found = document(scenario, collected, broker=target.name, quick=quick)
        if collected.rounds:
            click.echo(f"{report(scenario, found)}\nkept in {write(found, results)}\n")
    return found


@main.command()
def peers() -> None:
    """Set up the peers, and say which are ready."""
    from bench.contenders import all_peers

    for peer in all_peers():
        reason = peer.make_ready()
        click.echo(f"{peer.described['title']} {peer.described['version']}: {reason or 'ready'}")


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
@click.option("--rate", default=1_000.0, help="Records per second.", show_default=True)
@click.option("--for", "duration", default="60s", help="How long: 90s, 10m, 1h.", show_default=True)
@click.option("--metrics", default="", help="URL of the service's metrics, to show its backlog.")
@click.option("--seed", default=1, help="Which events.", show_default=True)
def load(bootstrap: str, topic: str, rate: float, duration: str, metrics: str, seed: int) -> None:
    """Publish events at a steady rate, to a cluster of yours.

    \b
    Example:
      python -m bench load --bootstrap localhost:9092 --rate 5000 --for 30s --metrics http://localhost:9464/metrics
    """
    from bench.load import Plan, seconds_of
    from bench.load import run as publish

    plan = Plan(bootstrap=bootstrap, topic=topic, rate=rate, seconds=seconds_of(duration), metrics=metrics, seed=seed)
    click.echo(publish(plan))


if __name__ == "__main__":
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
