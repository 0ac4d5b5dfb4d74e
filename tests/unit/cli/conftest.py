"""The command line, run in this process from an empty folder."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamproc.cli import main

Streamproc = Callable[..., Result]

APP = """
import contextlib
from streamproc import App, Event, Reject, RetryLater, Stream

class Order(Event, tag="order.placed"):
    order_id: str
    quantity: int = 1

class Reading(Event, tag="sensor.reading"):
    sensor_id: str

async def take_stock(order, ctx):
    if order.quantity > 100:
        return Reject("out_of_stock", "none left")
    if order.quantity < 0:
        raise ValueError("how many?")
    if order.quantity == 0:
        return RetryLater(30)
    ctx.services.append(order.order_id)

def store_readings(readings, ctx):
    print("stored", [reading.sensor_id for reading in readings])

@contextlib.asynccontextmanager
async def services(settings):
    opened = []
    yield opened
    print(settings.kafka.group_id, opened)

app = App(
    functions=[
        Stream(Order, take_stock, key="order_id", concurrency=7),
        Stream(Reading, store_readings, batch_size=500),
    ],
    services=services,
)
not_an_app = {}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with an app in `shop.py`."""
    modules, path = set(sys.modules), sys.path[:]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text(APP)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture
def streamproc(folder: Path) -> Streamproc:
    """Runs `streamproc` with the given arguments."""

    def run(*arguments: str, **more: object) -> Result:
        return CliRunner().invoke(main, arguments, prog_name="streamproc", **more)  # type: ignore[arg-type]

    return run
