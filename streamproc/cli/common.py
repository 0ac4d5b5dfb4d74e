"""What the commands share: flags that become settings, finding the app, printing tables and JSON."""

import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamproc.errors import ConfigError, StreamprocError

if TYPE_CHECKING:
    from streamproc.app import App
    from streamproc.settings import Loaded

Answer = TypeVar("Answer")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a command line says that settings come from."""

    file: Path | None
    sets: Sequence[str]

    def load(self, **more: Any) -> "Loaded":
        """The settings; `more` are values of flags of their own, by dotted name. Raises ConfigError."""
        from streamproc.settings import load

        flags = dict(more)
        for one in self.sets:
            name, equals, value = one.partition("=")
            if not equals:
                raise ConfigError(f"--set {one}: write it as NAME=VALUE, as in --set kafka.group_id=shop")
            flags[name.strip()] = value
        return load(self.file, os.environ, flags=flags)


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --config and --set, which the command gets as `source`."""

    @click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar="STREAMPROC_CONFIG",
        help="Settings file; streamproc.toml of the current directory when not given.",
    )
    @click.option("sets", "--set", multiple=True, metavar="NAME=VALUE", help="A setting, such as kafka.group_id=shop.")
    @wraps(command)
    def with_source(*args: Any, config: Path | None, sets: Sequence[str], **rest: Any) -> None:
        command(*args, source=Source(config, sets), **rest)

    return with_source


@dataclass(frozen=True, slots=True)
class Target:
    """Which app a command line means: `module:attribute`, and the folder of the module."""

    name: str
    folder: str

    def load(self) -> "App":
        """The app. Raises ConfigError that says which part is wrong."""
        from streamproc.app import App

        module_name, colon, attribute = self.name.partition(":")
        if "/" in module_name or module_name.endswith(".py"):
            raise ConfigError(
                f"{self.name!r}: name the module, not its file, as in shop:app, and its folder by --app-dir"
            )
        if not (colon and module_name and attribute):
            raise ConfigError(f"{self.name!r} names no app: write MODULE:ATTRIBUTE, as in handlers.app:app")
        module = _import(module_name, self.folder)
        found = getattr(module, attribute, None)
        if found is None:
            near = get_close_matches(attribute, dir(module), n=1)
            raise ConfigError(f"{module_name} has no {attribute!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if not isinstance(found, App):
            raise ConfigError(f"{self.name} is of type {type(found).__name__}, not App")
        return found


def app_options(*, as_option: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the argument APP (or the option --app) and --app-dir, which the command gets as `target`."""
    argument = click.argument("app", metavar="APP")
    option = click.option("--app", default="handlers.app:app", show_default=True, help="MODULE:ATTRIBUTE of the app.")

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @(option if as_option else argument)
        @click.option("--app-dir", default=".", show_default=True, help="Where Python finds the app.")
        @wraps(command)
        def with_target(*args: Any, app: str, app_dir: str, **rest: Any) -> None:
            command(*args, target=Target(app, app_dir), **rest)

        return with_target

    return add


def json_option(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --json."""
    return click.option("as_json", "--json", is_flag=True, help="Print JSON.")(command)


def _import(name: str, app_dir: str) -> Any:
    folder = str(Path(app_dir).resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise ConfigError(f"there is no module {missing!r} in {app_dir!r} (see --app-dir)") from error
        raise ConfigError(f"{name} cannot be imported: it needs {missing!r}, which is not installed") from error
    except StreamprocError as error:
        raise ConfigError(f"{name}: {error}") from error
    except SystemExit as error:
        raise ConfigError(f"{name} cannot be imported: it ends Python, by sys.exit say{_line(error)}") from error
    except Exception as error:
        raise ConfigError(f"{name} cannot be imported: {type(error).__name__}: {error}{_line(error)}") from error


def _line(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})" if trace is not None else ""


def ask_kafka(answer: Coroutine[Any, Any, Answer]) -> Answer:
    """Runs a coroutine with the Kafka client's log off: what it logs of a failure, the error says in a sentence."""
    import asyncio

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return asyncio.run(answer)


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints columns, without the control characters that values from outside may hold."""
    cells = [[name.upper() for name in header], *([cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        click.echo("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())


def cell(value: object) -> str:
    """A value as people read it."""
    if isinstance(value, Mapping):
        value = ",".join(f"{name}={one}" for name, one in value.items())
    elif isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    elif isinstance(value, bool):
        value = str(value).lower()
    return "" if value is None else _CONTROL.sub(" ", str(value))


def print_json(value: object) -> None:
    """Prints a value as indented JSON."""
    import orjson

    click.echo(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode())
