"""All settings of a process: each part declares its own, four places give values, one check sees all."""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.logs import LogOptions
from streamproc.adapters.mail import MailOptions
from streamproc.adapters.objects import ObjectOptions
from streamproc.adapters.store import StoreOptions
from streamproc.app import option_types
from streamproc.compute import ComputeOptions
from streamproc.errors import ConfigError
from streamproc.expected import expected
from streamproc.http.options import AuthOptions, HttpOptions, OpsOptions
from streamproc.secret import read_secret
from streamproc.stream.options import StreamOptions

PREFIX = "STREAMPROC_"
DEFAULT_FILE = "streamproc.toml"

_NOT_SETTINGS = re.compile(
    # What Kubernetes sets in every pod beside a service named streamproc, the file's name, what tests read.
    r"STREAMPROC_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
    r"|STREAMPROC_CONFIG|STREAMPROC_TEST_\w+"
)


class AppOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[app]`."""

    options: Annotated[dict[str, str], msgspec.Meta(description="what the application itself asks for, by name")] = (
        msgspec.field(default_factory=dict)
    )


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One section per part of the program; `functions` overrides options of single functions, by name."""

    kafka: KafkaOptions = msgspec.field(default_factory=KafkaOptions)
    stream: StreamOptions = msgspec.field(default_factory=StreamOptions)
    store: StoreOptions = msgspec.field(default_factory=StoreOptions)
    mail: MailOptions = msgspec.field(default_factory=MailOptions)
    objects: ObjectOptions = msgspec.field(default_factory=ObjectOptions)
    compute: ComputeOptions = msgspec.field(default_factory=ComputeOptions)
    http: HttpOptions = msgspec.field(default_factory=HttpOptions)
    auth: AuthOptions = msgspec.field(default_factory=AuthOptions)
    ops: OpsOptions = msgspec.field(default_factory=OpsOptions)
    log: LogOptions = msgspec.field(default_factory=LogOptions)
    app: AppOptions = msgspec.field(default_factory=AppOptions)
    functions: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)


class Value(NamedTuple):
    """One setting as people may see it: dotted name, value (`***` for a secret), where it came from."""

    name: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Checked settings; `origins` has the dotted name of each value that is not a default."""

    settings: Settings
    origins: Mapping[str, str]

    def values(self) -> list[Value]:
        """Every setting, in the order of the sections, with secrets masked."""
        found: list[tuple[str, Any]] = []
        for leaf in _Schema().leaves.values():
            value = _of(self.settings, leaf)
            if leaf.children is not None and value:
                found += [(f"{leaf.name}.{child}", value[child]) for child in value]
            else:
                found.append((leaf.name, "***" if leaf.secret and value else value))
        for function, options in self.settings.functions.items():
            found += [(f"functions.{function}.{option}", options[option]) for option in options]
        return [Value(name, value, self.origins.get(name, "default")) for name, value in found]


def load(file: Path | None, environ: Mapping[str, str], *, flags: Mapping[str, Any] | None = None) -> Loaded:
    """Settings from defaults, then a TOML file, then `STREAMPROC_SECTION__OPTION` variables, then flags.

    Without a file, `streamproc.toml` of the current directory is read, where there is one. Flags have dotted
    names. Raises ConfigError, a line per problem: unknown names, wrong types, values outside their limits, settings
    that contradict each other.
    """
    loader = _Loader()
    loader.add(loader.in_file(file))
    loader.add(loader.in_environ(environ))
    for name, value in (flags or {}).items():
        loader.add([_Given(name, value, f"--set {name}", f"--set {name}", isinstance(value, str))])
    settings = loader.build()
    origins = {name: one.origin for name, (one, _) in loader.given.items()}
    problems = loader.problems + contradictions(settings, origins)
    if problems:
        raise ConfigError("\n".join(problems))
    return Loaded(settings, origins)


def secrets(settings: Settings) -> frozenset[str]:
    """What is never to be shown: settings marked `Meta(extra={"secret": True})`, and what `secret_file`s hold now."""
    found: set[str] = set()
    for leaf in _Schema().leaves.values():
        value = _of(settings, leaf)
        if value and leaf.secret:
            found.add(str(value))
        elif value and leaf.name.endswith(("password_file", "secret_file")):
            with suppress(ConfigError):  # told by who needs it
                found.add(read_secret(value, leaf.name))
    return frozenset(found)


def contradictions(settings: Settings, origins: Mapping[str, str] | None = None) -> list[str]:
    """Returns a sentence for each group of settings that cannot hold together, and who set them as far as is known."""
    found = []
    for names, find in _CONTRADICTIONS:
        if wrong := find(settings):
            values = " and ".join(f"{name} = {_shown(settings, name)}" for name in names)
            given = [(name, (origins or {})[name]) for name in names if name in (origins or {})]
            told = ", ".join(f"{name}{'' if n else ' was set'} by {origin}" for n, (name, origin) in enumerate(given))
            found.append(f"{values}: {wrong}{f' ({told})' if told else ''}")
    return found


def _shown(settings: Settings, name: str) -> str:
    section, _, option = name.partition(".")
    value = getattr(getattr(settings, section), option)
    return ", ".join(value) if isinstance(value, list) else str(value)


def _letters_are_read(settings: Settings) -> str:
    topics = settings.stream.topics
    for topic in topics:
        letters = settings.stream.dead_letter_topic.format(topic=topic)
        if letters in topics:
            return (
                f"the dead letters of {topic} would go to {letters}, which is an input topic;"
                " read the one without the other, or name another dead_letter_topic"
            )
    return ""


def _drains_too_long(settings: Settings) -> str:
    """Until a member joins again it hears of the rebalance, drains, and waits for a commit under way and its own."""
    stream, kafka = settings.stream, settings.kafka
    needs_s = kafka.heartbeat_interval_s + stream.drain_s + 2 * stream.commit_timeout_s
    if needs_s < kafka.rebalance_timeout_s:
        return ""
    return (
        "the group gives partitions to others before the calls in flight have ended and are committed;"
        f" keep drain_s + 2 * commit_timeout_s + a heartbeat, {needs_s:g} s, below the last"
    )


def _time_is_not_asked_for(settings: Settings) -> str:
    stream = settings.stream
    unused = stream.starting_timestamp is not None and stream.starting_position != "at_timestamp"
    return "the time counts with starting_position = at_timestamp only" if unused else ""


def _nobody_logs_in(settings: Settings) -> str:
    kafka = settings.kafka
    unused = kafka.sasl_username and not kafka.security_protocol.startswith("SASL")
    return "nobody would log in: set security_protocol = SASL_SSL or SASL_PLAINTEXT" if unused else ""


_CONTRADICTIONS: tuple[tuple[tuple[str, ...], Callable[[Settings], str]], ...] = (
    (("stream.topics", "stream.dead_letter_topic"), _letters_are_read),
    (("stream.drain_s", "stream.commit_timeout_s", "kafka.rebalance_timeout_s"), _drains_too_long),
    (("stream.starting_position", "stream.starting_timestamp"), _time_is_not_asked_for),
    (("kafka.security_protocol", "kafka.sasl_username"), _nobody_logs_in),
)
"""Settings that can break a promise together, and what says how: "" where they do not."""


def _of(settings: Settings, leaf: "_Leaf") -> Any:
    section, _, option = leaf.name.partition(".")
    return getattr(getattr(settings, section), option)


class _Given(NamedTuple):
    """A value somebody wrote; `where` is what to search for to find it, `is_text` when it needs parsing."""

    name: str
    value: Any
    origin: str
    where: str
    is_text: bool = False


class _Leaf(NamedTuple):
    """One setting; `children` is the type of the values where the setting is a table with free names."""

    name: str
    type: Any
    secret: bool
    children: Any = None


class _Schema:
    """The settings that exist, by dotted name."""

    def __init__(self) -> None:
        self.options = option_types()
        self.sections = {name: hint for name, hint in get_type_hints(Settings).items() if name != "functions"}
        self.leaves = {
            f"{section}.{option}": _leaf(f"{section}.{option}", hint)
            for section, options in self.sections.items()
            for option, hint in get_type_hints(options, include_extras=True).items()
        }

    def find(self, name: str) -> _Leaf | None:
        """The setting of this name, also of one function or one entry of a table."""
        section, _, rest = name.partition(".")
        if section == "functions":
            function, _, option = rest.rpartition(".")
            hint = self.options.get(option)
            return _leaf(name, hint) if function and hint is not None else None
        parent = self.leaves.get(".".join(name.split(".", 2)[:2]))
        if parent is not None and parent.children is not None and parent.name != name:
            return _leaf(name, parent.children)
        return self.leaves.get(name)

    def path(self, name: str) -> list[str]:
        """The steps to a setting; functions and entries of tables may have dots in their names."""
        section, _, rest = name.partition(".")
        if section == "functions":
            return [section, *rest.rsplit(".", 1)]
        return [section, *([rest] if name in self.leaves else rest.split(".", 1))]

    def is_table(self, name: str) -> bool:
        """Whether a TOML table of this name holds settings, rather than being the value of one."""
        leaf = self.leaves.get(name)
        is_function = name.startswith("functions.")  # also one with dots in its name: no option is a table
        return name in (*self.sections, "functions") or is_function or bool(leaf and leaf.children)

    def names(self, like: str) -> list[str]:
        """Every name that could have been meant by one that does not exist."""
        function = like.startswith("functions.") and like.rpartition(".")[0]
        return [*self.leaves, *(f"{function}.{option}" for option in self.options if function)]


def _leaf(name: str, hint: Any) -> _Leaf:
    marks = [mark.extra or {} for mark in get_args(hint)[1:] if isinstance(mark, msgspec.Meta)]
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    children = get_args(bare)[1] if get_origin(bare) is dict else None
    return _Leaf(name, hint, any(mark.get("secret") for mark in marks), children)


class _Loader:
    """Collects what is given, the last one of a name, and what is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.given: dict[str, tuple[_Given, _Leaf]] = {}
        self._schema = _Schema()

    def add(self, found: Iterable[_Given]) -> None:
        """Takes values that win over those before them."""
        for one in found:
            leaf = self._schema.find(one.name)
            if leaf is None:
                self.problems.append(f"{one.where}: no such setting{_hint(one, self._schema)}")
            else:
                self.given[one.name] = (one, leaf)

    def in_file(self, file: Path | None) -> Iterator[_Given]:
        """The values of a TOML file."""
        path = file or Path(DEFAULT_FILE)
        try:
            table = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            if file is not None or not isinstance(error, FileNotFoundError):
                self.problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")
            return
        for name, value in self._flatten(table, ""):
            yield _Given(name, value, str(path), f"{path}: {name}")

    def _flatten(self, table: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
        for key, value in table.items():
            if isinstance(value, dict) and self._schema.is_table(above + key):
                yield from self._flatten(value, f"{above}{key}.")
            else:
                yield above + key, value

    def in_environ(self, environ: Mapping[str, str]) -> Iterator[_Given]:
        """The values of variables, or of the files that variables ending in _FILE name."""
        for variable in sorted(environ):
            if not variable.startswith(PREFIX) or _NOT_SETTINGS.fullmatch(variable):
                continue
            name = variable.removeprefix(PREFIX).lower().replace("__", ".")
            if self._schema.find(name) is not None or self._schema.find(name.removesuffix("_file")) is None:
                yield _Given(name, environ[variable], variable, variable, is_text=True)
            elif (rival := variable.removesuffix("_FILE")) in environ:
                self.problems.append(f"{variable}: {rival} is set too; only one of them may be")
            elif (held := self._held(variable, environ[variable])) is not None:
                yield _Given(name.removesuffix("_file"), held, variable, variable, is_text=True)

    def _held(self, variable: str, path: str) -> str | None:
        try:
            return re.sub(r"\r?\n\Z", "", Path(path).read_bytes().decode())
        except (OSError, UnicodeDecodeError) as error:
            self.problems.append(f"{variable}: cannot read {path!r}: {getattr(error, 'strerror', 'not UTF-8 text')}")
            return None

    def build(self) -> Settings:
        """The settings; without the values that are wrong."""
        sections = self._sections()
        built: dict[str, Any] = {"functions": sections.get("functions", {})}
        for name, options in self._schema.sections.items():
            try:
                built[name] = options(**sections.get(name, {}))
            except (ConfigError, TypeError, ValueError) as error:
                self.problems.append(f"[{name}]: {error}")
        return Settings(**built)

    def _sections(self) -> dict[str, dict[str, Any]]:
        sections: dict[str, dict[str, Any]] = {}
        for one, leaf in self.given.values():
            try:
                value = _typed(one, leaf.type)
            except msgspec.ValidationError:
                # The message of msgspec may quote the value, which may be a secret in the wrong place.
                wanted = expected(leaf.type)
                self.problems.append(f"{one.name}: expected {wanted}; it was set by {one.origin}")
                continue
            path = self._schema.path(one.name)
            table = sections
            for step in path[:-1]:
                table = table.setdefault(step, {})
            table[path[-1]] = value
        return sections


def _hint(given: _Given, schema: _Schema) -> str:
    if given.name in schema.sections:
        return f"; it is a section, [{given.name}]"
    is_variable = given.where.startswith(PREFIX)
    near = difflib.get_close_matches(given.name, schema.names(given.name), n=1)
    meant = [PREFIX + name.upper().replace(".", "__") if is_variable else name for name in near]
    return f"; did you mean {meant[0]}?" if meant else ""


def _typed(given: _Given, hint: Any) -> Any:
    value = given.value
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if given.is_text and get_origin(bare) in (list, tuple):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return msgspec.convert(value, hint, strict=not given.is_text)
