"""The log: what a line holds, and what it never holds."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest

from streamproc.adapters import logs
from streamproc.adapters.logs import MESSAGE_MAX, STACKTRACE_MAX, LogOptions, Repeats, configure

CANARY = 'c4nary"\\-ö Pa55/word'


Raised = TypeVar("Raised", bound=BaseException)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def started(options: LogOptions | None = None, *secrets: str) -> io.StringIO:
    stream = io.StringIO()
    configure(options or LogOptions(), secrets, stream=stream)
    return stream


def raised(error: Raised) -> Raised:
    with pytest.raises(type(error)):
        raise error
    return error


def test_a_line_has_time_level_logger_message_and_the_fields_of_the_adapter() -> None:
    stream = started()
    log = logging.LoggerAdapter(logging.getLogger("shop"), {"function": "take_stock", "offset": 7, "key": b"k"})
    log.warning("only %d left", 2)
    [line] = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "shop",
        "message": "only 2 left",
        "function": "take_stock",
        "offset": 7,
        "key": "b'k'",
    }


def test_time_is_utc_in_rfc_3339() -> None:
    stream = started()
    record = logging.makeLogRecord({"created": 1_769_860_800.25, "levelno": logging.INFO, "msg": "noon"})
    logging.getLogger().handle(record)
    assert lines(stream)[0]["time"] == "2026-01-31T12:00:00.250Z"


def test_a_field_cannot_replace_time_level_logger_or_message() -> None:
    stream = started()
    logging.LoggerAdapter(logging.getLogger("shop"), {"level": "none", "logger": "none"}).info("hello")
    assert (lines(stream)[0]["level"], lines(stream)[0]["logger"]) == ("info", "shop")


def test_an_exception_is_type_message_and_stacktrace() -> None:
    stream = started()
    error = raised(ValueError("bad\x1b[31m\r\n thing" + "x" * 2_000))
    logging.getLogger("shop").error("failed", exc_info=error)
    [line] = lines(stream)
    assert line["error"] == "ValueError"
    assert line["error_message"].startswith("bad[31m thingxxx")
    assert len(line["error_message"]) == MESSAGE_MAX
    assert "in raised" in line["stacktrace"]
    assert "\x1b" not in line["stacktrace"]
    assert len(line["stacktrace"]) < 2_000


def test_a_stacktrace_shows_causes_and_groups() -> None:
    stream = started()
    cause = raised(KeyError("cause"))
    error = raised(ExceptionGroup("several", [raised(OSError(f"member {i}" * 500)) for i in range(200)]))
    error.__cause__ = cause
    logging.getLogger("shop").error("failed", exc_info=error)
    [line] = lines(stream)
    assert "several" in line["stacktrace"]
    assert "OSError: member 0member 0" in line["stacktrace"]
    assert "KeyError: 'cause'" in line["stacktrace"]


def test_a_stacktrace_is_cut_at_its_beginning() -> None:
    stream = started()
    error = ValueError("first")
    for number in range(100):
        later = raised(ValueError(f"{number} " + "x" * 400))
        later.__cause__ = error
        error = later
    logging.getLogger("shop").error("failed", exc_info=error)
    stacktrace = lines(stream)[0]["stacktrace"]
    assert len(stacktrace) == STACKTRACE_MAX
    assert "ValueError: 99 xxx" in stacktrace


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_secret_appears_nowhere(form: Any) -> None:
    stream = started(LogOptions(format=form), CANARY, "12345678")
    log = logging.getLogger("shop")
    error = raised(ExceptionGroup(f"group {CANARY}", [ValueError(CANARY), KeyError(CANARY)]))
    error.__cause__ = raised(ConnectionError(f"https://u:{CANARY}@host"))
    log.error("%s and %r", CANARY, CANARY, exc_info=error)
    log.info("no arguments: " + CANARY)
    log.info("%d does not fit", CANARY)
    log.info("as JSON: %s", json.dumps({"password": CANARY}))
    logging.LoggerAdapter(log, {"url": f"kafka://{CANARY}", "pin": 12345678, "all": {"p": [CANARY]}}).info("fields")
    log.info("encoded: c4nary%22%5C-%C3%B6%20Pa55%2Fword")
    text = stream.getvalue()
    assert "c4nary" not in text
    assert "12345678" not in text
    assert text.count("***") >= 9
    assert "does not fit" in text


def test_numbers_that_are_no_secret_stay_numbers() -> None:
    stream = started(None, CANARY)
    logging.LoggerAdapter(logging.getLogger("shop"), {"offset": 7, "ratio": 0.5, "on": True, "none": None}).info("hi")
    line = lines(stream)[0]
    assert (line["offset"], line["ratio"], line["on"], line["none"]) == (7, 0.5, True, None)


def test_what_json_cannot_hold_is_still_logged() -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError

    stream = started()
    logging.LoggerAdapter(logging.getLogger("shop"), {"big": 2**70, "it": Unprintable()}).info("lone \ud800 surrogate")
    [line] = lines(stream)
    assert (line["big"], line["it"], line["message"]) == (2**70, "<Unprintable>", "lone \ud800 surrogate")


def test_text_on_a_terminal_and_json_elsewhere() -> None:
    stream = Terminal()
    configure(LogOptions(), [], stream=stream)
    log = logging.LoggerAdapter(logging.getLogger("shop"), {"offset": 7})
    log.info("first\x1b[2Jsecond\nthird")
    log.error("failed", exc_info=raised(ValueError("why")))
    first, second, *trace = stream.getvalue().splitlines()
    assert first.split(" ", 1)[1] == "INFO shop first [2Jsecond third offset=7"
    assert second.split(" ", 1)[1] == "ERROR shop failed offset=7 error=ValueError error_message=why"
    assert trace[-1] == "ValueError: why"
    json_on_a_terminal = Terminal()
    configure(LogOptions(format="json"), [], stream=json_on_a_terminal)
    logging.getLogger("shop").info("hi")
    assert lines(json_on_a_terminal)[0]["message"] == "hi"


def test_levels() -> None:
    stream = started(LogOptions(level="warning"))
    logging.getLogger("shop").info("no")
    logging.getLogger("shop").warning("yes")
    assert [line["message"] for line in lines(stream)] == ["yes"]


def test_the_client_and_the_server_only_warn() -> None:
    stream = started(LogOptions(level="debug"))
    logging.getLogger("aiokafka.consumer.fetcher").info("no")
    logging.getLogger("uvicorn.error").info("no")
    logging.getLogger("aiokafka.conn").warning("yes")
    assert [line["message"] for line in lines(stream)] == ["yes"]


async def test_a_cancelled_task_is_logged_like_any_error() -> None:
    stream = started()
    logging.getLogger("shop").error("ended", exc_info=raised(asyncio.CancelledError()))
    assert lines(stream)[0]["error"] == "CancelledError"


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(logs, "Repeats", lambda: Repeats(made))
    return made


def ours(template: str, *arguments: object, level: int = logging.WARNING, name: str = "streamproc.relay") -> None:
    """Logs what a module of the package would."""
    record = logging.LogRecord(name, level, f"{logs._PACKAGE}relay.py", 1, template, arguments, None)
    logging.getLogger(name).handle(record)


def outage(client: logging.Logger, seconds: int, clock: Clock) -> None:
    """What the client of Kafka writes while no broker answers, 60 lines a second."""
    for _ in range(seconds):
        clock.now += 1.0
        for node in range(30):
            client.error("Unable connect to node with id %s: %s", node, OSError("refused"))
            client.warning("Failed fetch messages from %s: %s", node, "NodeNotReadyError")


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_outage_writes_a_line_of_each_kind_and_then_one_a_minute(form: Any, clock: Clock) -> None:
    stream = started(LogOptions(format=form))
    outage(logging.getLogger("aiokafka.conn"), 150, clock)
    written = stream.getvalue().splitlines()
    assert len(written) == 6
    assert [line for line in written if "1799" in line] == written[2:]
    assert all("suppressed" in line for line in written[2:])
    assert not any("suppressed" in line for line in written[:2])


def test_what_is_left_out_is_told_with_the_next_one_and_a_later_one_is_news_again(clock: Clock) -> None:
    stream = started()
    client = logging.getLogger("aiokafka.conn")
    for clock.now in (0.0, 1.0, 2.0, 60.0, 61.0, 1_000.0, 2_000.0):
        client.warning("Heartbeat failed: %s", "no answer")
    assert [line.get("suppressed") for line in lines(stream)] == [None, 2, 1, None]


def test_our_own_lines_are_of_a_kind_up_to_their_counts(clock: Clock) -> None:
    stream = started()
    for number in range(50):
        ours("%d dead letters were refused and are kept: %s", number, "no acknowledgement within 5 s")
        ours("%s-%d is stopped, %s: %s", "events", number % 3, "not_authorized", "this user may not")
    assert [line["message"] for line in lines(stream)] == [
        "0 dead letters were refused and are kept: no acknowledgement within 5 s",
        "events-0 is stopped, not_authorized: this user may not",
        "events-1 is stopped, not_authorized: this user may not",
        "events-2 is stopped, not_authorized: this user may not",
    ]


def test_what_the_application_logs_is_never_left_out(clock: Clock) -> None:
    stream = started()
    log = logging.getLogger("streamproc.functions.mail")
    for _ in range(20):
        log.warning("no such user")
        logging.getLogger("shop").error("sold out")
    assert len(lines(stream)) == 40


def test_neither_are_stack_traces_and_what_is_no_warning(clock: Clock) -> None:
    stream = started()
    for _ in range(5):
        ours("assigned %d partitions", 4, level=logging.INFO)
        record = logging.LogRecord("streamproc", logging.ERROR, f"{logs._PACKAGE}relay.py", 1, "failed", (), None)
        error = raised(KeyError("cause"))
        record.exc_info = type(error), error, error.__traceback__
        logging.getLogger("streamproc").handle(record)
    assert len(lines(stream)) == 10


def test_kinds_are_forgotten_before_they_fill_the_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "KINDS_MAX", 10)
    repeats = Repeats(clock)
    for number in range(1_000):
        record = logging.LogRecord("aiokafka", logging.ERROR, "conn.py", 1, f"template {number}", (), None)
        assert repeats.filter(record)
    assert len(repeats._kinds) == 10
