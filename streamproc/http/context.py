"""What a function for requests is given besides its parameters."""

import logging
import uuid
from dataclasses import replace

from streamproc.context import CallContext, Run, S
from streamproc.http.answer import Problem
from streamproc.http.arguments import Refusal
from streamproc.http.auth import Caller
from streamproc.model import Event, OutRecord
from streamproc.stream.wrap import record_of

_REQUESTS = uuid.UUID("8a6e3d0e-55a2-4c58-9d0c-6a3f5b1f7a11")
_OVERHEAD_BYTES = 200
"""At most what the broker adds to the parts of a record."""


class HttpContext(CallContext[S]):
    """The context of a request. `caller` is None only in public functions."""

    __slots__ = ("_run", "_started", "caller", "emitted", "idempotency_key", "request_id", "stored", "traceparent")

    def __init__(self, run: Run[S], caller: Caller | None, request_id: str, traceparent: str) -> None:
        self._run = run
        self._started = run.tick()
        self.caller = caller
        self.request_id = request_id
        self.traceparent = traceparent
        self.idempotency_key = ""
        self.emitted: list[OutRecord] = []
        self.stored = False

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the function and the request."""
        return logging.LoggerAdapter(self._run.log, {"function": self._run.name, "request_id": self.request_id})

    def new_id(self, part: str = "") -> str:
        """An id for what this request makes, the same when the caller repeats it with its Idempotency-Key.

        So a repeat finds what the first made. `part` tells several ids of one request apart. Without the key, ids are
        random.
        """
        if not self.idempotency_key:
            return str(uuid.uuid4())
        subject = self.caller.subject if self.caller else ""
        identity = "\0".join((self._run.name, subject, self.idempotency_key, part))
        return str(uuid.uuid5(_REQUESTS, identity))

    def event(self, event: Event, *, key: str, topic: str = "", event_id: str = "") -> OutRecord:
        """An event as a record of its topic (the first input topic when not given), for a store to put in the outbox.

        Row and event are then written in one transaction, and the event is published once that is committed.
        """
        self.stored = True
        return self._record(event, key=key, topic=topic, event_id=event_id)

    def emit(self, event: Event, *, key: str, topic: str = "", event_id: str = "") -> None:
        """Queues an event. The broker has it before the answer is sent; where it refuses, the answer is 503."""
        self.emitted.append(self._record(event, key=key, topic=topic, event_id=event_id))

    def _record(self, event: Event, *, key: str, topic: str, event_id: str) -> OutRecord:
        record = record_of(event, self._run.stream, key=key, topic=topic, event_id=event_id)
        if self.traceparent:
            record = replace(record, headers=[*record.headers, ("traceparent", self.traceparent.encode())])
        bytes_max = self._run.stream.max_record_bytes
        if _size(record) > bytes_max:  # it would wait in the outbox for ever, or be a dead letter
            raise Refusal(Problem(413, f"The event is larger than {bytes_max} bytes"))
        return record


def _size(record: OutRecord) -> int:
    headers = sum(len(name.encode()) + len(value or b"") for name, value in record.headers)
    return len(record.value or b"") + len(record.key or b"") + headers + _OVERHEAD_BYTES
