"""HTTP functions as an ASGI application: a request's whole life, in the order it happens. Read `_answer` first.

    route -> who calls -> how often -> body -> arguments -> the function -> what it emitted -> the answer

What can be refused is refused before anything is read or done: a request without a token costs no body.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamproc.app import App, Http
from streamproc.context import CallLimits, Clocks, Run
from streamproc.errors import BrokerError, RecordRefused, RecordTooLarge, StoreError
from streamproc.http import cors, trace
from streamproc.http.answer import Problem
from streamproc.http.arguments import Arguments, Refusal
from streamproc.http.auth import Caller, InvalidToken, KeysUnavailable, TokenVerifier
from streamproc.http.body import Bodies, Disconnected, Receive
from streamproc.http.calls import Calls, Expired
from streamproc.http.context import HttpContext
from streamproc.http.options import HttpOptions
from streamproc.http.rate import RateLimit
from streamproc.http.render import Rendered, compressed, problem, render
from streamproc.http.routes import Found, Routes
from streamproc.http.signature import CONTEXT, signature
from streamproc.model import FunctionSnapshot, HttpSnapshot
from streamproc.ports import Producer
from streamproc.stream.options import StreamOptions

log = logging.getLogger(__name__)
access_log = logging.getLogger("streamproc.access")

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
CLIENT_GONE = 499
"""The status in log and metrics of a request whose caller left; nobody gets it."""
RETRY_AFTER = {"retry-after": "1"}
BEARER = {"www-authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class Around:
    """What the gateway works with. `stored` is called when a function has put something into the outbox."""

    services: Any
    producer: Producer
    verifier: TokenVerifier
    options: HttpOptions
    stream: StreamOptions
    now: Callable[[], float]
    stored: Callable[[], None]


class _Route:
    """A function, ready to be called."""

    def __init__(self, function: Http, around: Around) -> None:
        self.function = function
        self.calls = Calls(function)
        self.rate = RateLimit(function.rate_per_s) if function.rate_per_s else None
        self.arguments = Arguments(signature(function))
        self.run: Run[Any] = Run(
            function.name,
            around.services,
            limits=CallLimits(function.timeout_s),
            stream=around.stream,
            clocks=Clocks(around.now, around.now),
        )


class _Request:
    """A request's head, and what becomes known of it."""

    __slots__ = ("caller", "client", "headers", "method", "path", "query", "receive", "request_id", "traceparent")

    def __init__(self, scope: Mapping[str, Any], receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.headers: dict[bytes, str] = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if len(self.headers) < len(scope["headers"]):
            self.headers = _joined(scope["headers"])
        self.client: str = (scope.get("client") or ("",))[0]
        self.receive = receive
        trace_id, self.traceparent = trace.trace(self.headers.get(b"traceparent", ""))
        self.request_id = trace.request_id(self.headers.get(b"x-request-id", ""), trace_id)
        self.caller: Caller | None = None

    def header(self, name: bytes) -> str:
        """A header, "" where there is none."""
        return self.headers.get(name, "")


class Gateway:
    """The HTTP functions of an app, as an ASGI application."""

    def __init__(self, app: App, around: Around, documents: Mapping[str, Rendered] | None = None) -> None:
        """`documents` are answered by path to callers with any valid token. Raises ConfigError."""
        self._around = around
        self._documents = documents or {}
        self._functions = [_Route(function, around) for function in app.http_functions]
        self._routes = Routes([(one.function.method, one.function.path, one) for one in self._functions])
        self._bodies = Bodies(around.options.head_timeout_s)
        self._unrouted: dict[int, int] = {}

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request."""
        began = self._around.now()
        request = _Request(scope, receive)
        found = self._routes.find(request.path) or Found({}, {})
        route = found.by_method.get(_answered_as(request.method))
        try:
            if route is None:
                answer = await self._answer_unrouted(request, found)
            else:
                answer = await self._answer(request, route, found.values)
        except (Disconnected, asyncio.CancelledError):  # the server ends, and cut the connection
            answer = Rendered(CLIENT_GONE, {}, b"")
        except Refusal as refusal:
            answer = problem(refusal.problem)
        except Exception:
            log.exception("a request failed", extra={"request_id": request.request_id})
            answer = problem(Problem(500, "Internal server error"))
        if route is not None and route.function.cors:
            allowed = cors.answer_headers(route.function, request.header(b"origin"))
            answer = answer._replace(headers={**answer.headers, **allowed})
        counts = self._unrouted if route is None else route.calls.answers
        counts[answer.status] = counts.get(answer.status, 0) + 1
        if answer.status != CLIENT_GONE:
            await _send(send, compressed(answer, request.header(b"accept-encoding")), request)
        if self._around.options.access_log:
            self._log(request, route, answer, self._around.now() - began)

    async def _answer(self, request: _Request, route: _Route, path: Mapping[str, str]) -> Rendered:
        function, now = route.function, self._around.now()
        if not function.public:
            request.caller = await self._authenticated(request, function.scope)
        if route.rate is not None:
            wait_s = route.rate.wait_s(request.caller.subject if request.caller else request.client, now)
            if wait_s:
                raise Refusal(Problem(429, "Too many requests", headers={"retry-after": str(math.ceil(wait_s))}))
        arguments = route.arguments.of_parameters(path, request.query)
        if route.arguments.takes_body:
            length = request.header(b"content-length")
            body = await self._bodies.read(request.receive, length, function.body_bytes_max)
            arguments |= route.arguments.of_body(request.header(b"content-type"), body)
        if route.calls.full:
            raise Refusal(Problem(503, "Too many requests at once", headers=RETRY_AFTER))
        context = HttpContext(route.run, request.caller, request.request_id, request.traceparent)
        if b"idempotency-key" in request.headers:
            context.idempotency_key = _idempotency_key(request)
        return await self._call(route, {**arguments, CONTEXT: context}, context)

    async def _authenticated(self, request: _Request, scope: str) -> Caller:
        scheme, _, token = request.header(b"authorization").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refusal(Problem(401, "Unauthorized", headers=BEARER))
        try:
            caller = await self._around.verifier.verify(token.strip())
        except InvalidToken as error:
            log.info("a token was refused: %s", error, extra={"request_id": request.request_id})
            headers = {"www-authenticate": 'Bearer error="invalid_token"'}
            raise Refusal(Problem(401, "Invalid token", headers=headers)) from None
        except KeysUnavailable as error:
            log.warning("no keys to check tokens with: %s", error)
            raise Refusal(Problem(503, "Service unavailable", headers=RETRY_AFTER)) from None
        if scope and scope not in caller.scopes:
            headers = {"www-authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
            raise Refusal(Problem(403, "Forbidden", headers=headers))
        return caller

    async def _call(self, route: _Route, arguments: dict[str, Any], context: HttpContext[Any]) -> Rendered:
        try:
            returned = await route.calls.call(arguments)
            answer = render(returned)
            if context.emitted:
                with route.calls.place():
                    errors = [error for error in await self._around.producer.send(context.emitted) if error]
                if errors:
                    raise next((error for error in errors if isinstance(error, RecordRefused)), errors[0])
        except Expired:
            context.log.warning("%s ran over timeout_s=%g", context.function, route.function.timeout_s)
            return problem(Problem(504, "The function took too long"))
        except RecordRefused as error:
            context.log.error("%s emitted an event that is never taken: %s", context.function, error)
            large = isinstance(error, RecordTooLarge)
            return problem(Problem(413, "The event is too large") if large else Problem(500, "Internal server error"))
        except (BrokerError, StoreError) as error:
            context.log.warning("%s failed: %s: %s", context.function, type(error).__name__, error)
            return problem(Problem(503, "Service unavailable", headers=RETRY_AFTER))
        except Refusal as refusal:
            return problem(refusal.problem)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            context.log.exception("%s failed", context.function)  # also by SystemExit, which must not end the server
            return problem(Problem(500, "Internal server error"))
        finally:
            if context.stored:
                self._around.stored()
        return answer

    async def _answer_unrouted(self, request: _Request, found: Found[_Route]) -> Rendered:
        if request.path in self._documents and request.method in ("GET", "HEAD"):
            await self._authenticated(request, "")
            return self._documents[request.path]
        if not found.by_method:
            return problem(Problem(404, "Not found"))
        asked = found.by_method.get(_answered_as(request.header(b"access-control-request-method")))
        if request.method == "OPTIONS" and asked is not None and request.header(b"origin"):
            return Rendered(204, cors.preflight_headers(asked.function, request.header(b"origin")), b"")
        return problem(Problem(405, "Method not allowed", headers={"allow": found.allow}))

    def _log(self, request: _Request, route: _Route | None, answer: Rendered, seconds: float) -> None:
        fields = {
            "function": route.function.name if route else "other",
            "method": request.method,
            "path": request.path[:200],
            "status": answer.status,
            "bytes": len(answer.body),
            "seconds": round(seconds, 6),
            "client": request.client,
            "caller": request.caller.subject if request.caller else "",
            "request_id": request.request_id,
        }
        access_log.info("request", extra=fields)

    def snapshot(self) -> HttpSnapshot:
        """Frozen numbers."""
        functions = [
            FunctionSnapshot(
                one.function.name,
                0,
                one.calls.in_flight,
                0,
                one.calls.durations,
                one.calls.durations_sum_s,
                one.calls.in_flight,
            )
            for one in self._functions
        ]
        answers = {one.function.name: dict(one.calls.answers) for one in self._functions}
        return HttpSnapshot(functions, answers | {"other": dict(self._unrouted)})

    @property
    def busy(self) -> bool:
        """Whether calls still run; after `close`, those that nothing can end."""
        return any(one.calls.in_flight for one in self._functions)

    def close(self) -> None:
        """Cancels what still runs."""
        for one in self._functions:
            one.calls.close()


def _joined(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """A header that comes twice is one with both values (RFC 9110, 5.2), so two tokens are none."""
    found: dict[bytes, str] = {}
    for name, value in headers:
        text = value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _answered_as(method: str) -> str:
    return "GET" if method == "HEAD" else method


def _idempotency_key(request: _Request) -> str:
    key = request.header(b"idempotency-key")
    if not 0 < len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise Refusal(Problem(400, "Invalid request", {"Idempotency-Key": "not 1 to 255 printable ASCII characters"}))
    return key


async def _send(send: Send, answer: Rendered, request: _Request) -> None:
    headers: list[tuple[bytes, bytes]] = [
        (b"content-length", str(len(answer.body)).encode()),
        (b"x-request-id", request.request_id.encode()),
    ]
    if b"traceparent" in request.headers:
        headers.append((b"traceparent", request.traceparent.encode()))
    if answer.status == 204:
        del headers[0]
    headers += [(name.encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
