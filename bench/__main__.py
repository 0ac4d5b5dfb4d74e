"""`python -m bench demo | run | load`."""

import json
import signal
import sys
import tempfile
from pathlib import Path

import click

from bench.brokers import opened
from streamproc.errors import StreamprocError


@click.group()
def main() -> None:
    """The demo, the measurements and the load generator."""


@main.command()
@click.option("--quick", is_flag=True, help="Fewer records and rounds: at most three minutes.")
@click.option("--broker", default="auto", help="auto, embedded, docker or HOST:PORT.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line.")
def run(quick: bool, broker: str, as_json: bool) -> None:
    """Measure what a record costs."""
    from bench import throughput

    with tempfile.TemporaryDirectory() as folder, opened(broker, Path(folder) / "kafka") as target:
        result = throughput.run(target, quick=quick)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "throughput.json").write_text(json.dumps(result, indent=1))
    click.echo(throughput.report(result))
    if as_json:
        click.echo(json.dumps(throughput.summary(result)))


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
