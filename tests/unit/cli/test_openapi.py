"""`openapi`: the description of an app, for other programs, and what it says of an app that has none."""

import json
from pathlib import Path

import pytest

from handlers.app import app
from streamproc.http.openapi import document
from tests.unit.cli.conftest import Streamproc

ROOT = Path(__file__).parents[3]
SHOP = """
from streamproc import App, Body, Http, HttpContext

class New(Body):
    name: str

class Opaque: ...

async def make(new: New, ctx: HttpContext) -> None:
    "Makes one."

async def taken({parameters}) -> {answer}: ...

app = App(functions=[Http("POST", "/things", make, scope="things:write"){more}])
"""


def shop(folder: Path, *, parameters: str = "ctx", answer: str = "None", more: str = "") -> None:
    (folder / "things.py").write_text(SHOP.format(parameters=parameters, answer=answer, more=more))


def test_it_prints_the_document_of_the_app_it_is_told(streamproc: Streamproc, folder: Path) -> None:
    shop(folder)
    result = streamproc("openapi", "--app", "things:app")
    assert (result.exit_code, result.stderr) == (0, "")
    printed = json.loads(result.stdout)
    assert printed["info"] == {"title": "things:app", "version": "1"}
    assert printed["paths"]["/things"]["post"]["summary"] == "Makes one."
    assert printed["paths"]["/things"]["post"]["security"] == [{"bearer": ["things:write"]}]


def test_without_an_app_it_is_that_of_the_handlers_and_needs_no_settings(streamproc: Streamproc, folder: Path) -> None:
    (folder / "streamproc.toml").write_text("nonsense = true")
    result = streamproc("openapi", "--app-dir", str(ROOT))
    assert result.exit_code == 0
    assert json.loads(result.stdout) == document(app, title="handlers.app:app", version="1")


def test_an_app_without_http_functions_has_an_empty_description(streamproc: Streamproc) -> None:
    result = streamproc("openapi", "--app", "shop:app")
    assert (result.exit_code, json.loads(result.stdout)["paths"]) == (0, {})


MORE = ', Http("GET", "/taken", taken)'


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"more": MORE, "parameters": "x"}, "taken: it must take a parameter named ctx"),
        ({"more": MORE, "parameters": "ctx, x: Nowhere"}, "things cannot be imported: NameError"),
        ({"more": MORE, "parameters": "ctx", "answer": "Opaque"}, "of an HTTP function, type <class 'things.Opaque'>"),
        ({"more": ', Http("POST", "/things", taken)'}, "things: App: make and taken both answer POST /things"),
        ({"more": ', Http("GET", "taken", taken)'}, "things: Http('GET', 'taken'): write the path as in /users/{id}"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    streamproc: Streamproc, folder: Path, changes: dict[str, str], problem: str
) -> None:
    shop(folder, **changes)
    result = streamproc("openapi", "--app", "things:app")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {problem}")
    assert "Traceback" not in result.stderr
