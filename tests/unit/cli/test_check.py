"""`check` and how an app is found."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Streamproc


def test_functions_are_shown_with_the_options_they_run_with(streamproc: Streamproc) -> None:
    result = streamproc("check", "shop:app", "--set", "functions.store_readings.batch_size=1000")
    assert result.exit_code == 0
    header, stock, readings = [line.split() for line in result.stdout.splitlines()]
    assert header[:5] == ["FUNCTION", "EVENT_TYPE", "TOPIC", "KEY", "ORDER"]
    assert " ".join(stock) == "take_stock order.placed events order_id key 0.0 7 60.0 10 -1.0 0.1 30.0"
    assert " ".join(readings) == "store_readings sensor.reading events key 1000 0.0 8 60.0 10 -1.0 0.1 30.0"


def test_as_json(streamproc: Streamproc) -> None:
    result = streamproc("check", "shop:app", "--json", "--set", "stream.topics=a,b")
    assert result.exit_code == 0
    stock = json.loads(result.stdout)[0]
    assert (stock["function"], stock["topic"], stock["batch_size"]) == ("take_stock", ["a", "b"], None)


def test_a_key_that_is_a_function_is_shown_by_its_name(streamproc: Streamproc, folder: Path) -> None:
    source = (folder / "shop.py").read_text().replace('key="order_id"', "key=lambda order: order.order_id")
    (folder / "keyed.py").write_text(source)
    assert json.loads(streamproc("check", "keyed:app", "--json").stdout)[0]["key"] == "<lambda>"


def test_everything_that_is_wrong_is_told_together(streamproc: Streamproc) -> None:
    result = streamproc("check", "shop:ap", "--set", "stream.workers=0", "--set", "kafka.x=1")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "Error: --set kafka.x: no such setting",
        "stream.workers: expected a whole number >= 1 and <= 256; it was set by --set stream.workers",
        "shop has no 'ap'; did you mean 'app'?",
    ]


def test_settings_that_contradict_each_other_are_told(streamproc: Streamproc) -> None:
    result = streamproc("check", "shop:app", "--set", "stream.topics=a,a.dlq")
    assert result.exit_code == 2
    assert "the dead letters of a would go to a.dlq, which is an input topic" in result.stderr


def test_an_option_for_no_function_is_told(streamproc: Streamproc) -> None:
    result = streamproc("check", "shop:app", "--set", "functions.mail.batch_size=3")
    assert result.exit_code == 2
    assert "functions.mail: no such function; there are store_readings, take_stock" in result.stderr


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("shop", "'shop' names no app: write MODULE:ATTRIBUTE, as in handlers.app:app"),
        ("shop:", "'shop:' names no app: write MODULE:ATTRIBUTE, as in handlers.app:app"),
        ("shpo:app", "there is no module 'shpo' in '.' (see --app-dir)"),
        ("shpo.deep:app", "there is no module 'shpo' in '.' (see --app-dir)"),
        ("shop.deep:app", "there is no module 'shop.deep' in '.' (see --app-dir)"),
        ("shop:not_an_app", "shop:not_an_app is of type dict, not App"),
        ("needy:app", "needy cannot be imported: it needs 'no_such_package', which is not installed"),
        ("raising:app", "raising cannot be imported: ZeroDivisionError: division by zero (FOLDER/raising.py, line 2)"),
        ("declared:app", "declared: App: the list of functions is empty"),
    ],
)
def test_which_part_of_the_name_of_an_app_is_wrong(
    streamproc: Streamproc, folder: Path, target: str, sentence: str
) -> None:
    (folder / "needy.py").write_text("import no_such_package\n")
    (folder / "raising.py").write_text("one = 1\none / 0\n")
    (folder / "declared.py").write_text("from streamproc import App\napp = App(functions=[])\n")
    result = streamproc("check", target)
    assert result.exit_code == 2
    assert result.stderr == f"Error: {sentence.replace('FOLDER', str(folder))}\n"


def test_a_syntax_error_is_told_with_its_place(streamproc: Streamproc, folder: Path) -> None:
    (folder / "broken.py").write_text("one = 1\ndef (:\n")
    result = streamproc("check", "broken:app")
    assert result.exit_code == 2
    assert "broken cannot be imported: SyntaxError: " in result.stderr
    assert "broken.py, line 2" in result.stderr


def test_a_module_that_ends_python_is_told(streamproc: Streamproc, folder: Path) -> None:
    (folder / "quits.py").write_text("import sys\nsys.exit(0)\n")
    result = streamproc("check", "quits:app")
    assert result.exit_code == 2
    assert "quits cannot be imported: it ends Python, by sys.exit say (" in result.stderr


@pytest.mark.parametrize("name", ["./shop:app", "shop.py:app"])
def test_the_name_of_a_file_is_no_app(streamproc: Streamproc, name: str) -> None:
    assert f"Error: {name!r}: name the module, not its file, as in shop:app" in streamproc("check", name).stderr


def test_the_app_may_lie_in_another_folder(streamproc: Streamproc, folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "shop.py").rename(folder / "src" / "store.py")
    assert streamproc("check", "store:app").exit_code == 2
    assert streamproc("check", "store:app", "--app-dir", "src").exit_code == 0


API = """
from streamproc import App, Http
def get(id: str, ctx): ...
def odd(thing: int): ...
app = App(functions=[Http("GET", "/a/{id}", get, scope="a:read"), Http("GET", "/b", get, name="b", public=True)])
wrong = App(functions=[Http("GET", "/a/{id}", odd)])
"""
AUTH = ("--set", "auth.jwks_file=keys.json")


def test_http_functions_are_shown_with_their_routes(streamproc: Streamproc, folder: Path) -> None:
    (folder / "api.py").write_text(API)
    result = streamproc("check", "api:app")
    told = "Error: auth: set secret_file, jwks_url or jwks_file; without it no token can be checked\n"
    assert (result.exit_code, result.stderr) == (2, told)
    shown = json.loads(streamproc("check", "api:app", "--json", *AUTH).stdout)
    assert [(one["function"], one["method"], one["path"], one["scope"]) for one in shown] == [
        ("get", "GET", "/a/{id}", "a:read"),
        ("b", "GET", "/b", "public"),
    ]
    header = streamproc("check", "api:app", *AUTH).stdout.splitlines()[0].split()
    assert header[:4] == ["FUNCTION", "METHOD", "PATH", "SCOPE"]


def test_a_handler_that_no_request_could_call_is_told(streamproc: Streamproc, folder: Path) -> None:
    (folder / "api.py").write_text(API)
    result = streamproc("check", "api:wrong", *AUTH)
    assert (result.exit_code, result.stderr) == (2, "Error: odd: it must take a parameter named ctx\n")
