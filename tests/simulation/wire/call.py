"""A request that a node has taken, its answer, and the line it leaves in the trace."""

from typing import TYPE_CHECKING, Any

from tests.simulation.wire.faults import NO_TROUBLE, Trouble
from tests.simulation.wire.net import Connection
from tests.simulation.wire.protocol import Api, Code, Header, encode

if TYPE_CHECKING:
    from tests.simulation.wire.cluster import Cluster, Node

At = tuple[str, int]
WITH_PARTITIONS = {
    Api.PRODUCE,
    Api.FETCH,
    Api.LIST_OFFSETS,
    Api.OFFSET_COMMIT,
    Api.OFFSET_FETCH,
    Api.TXN_OFFSET_COMMIT,
    Api.ADD_PARTITIONS_TO_TXN,
}


class Entry:
    """A line of the trace; it is put in words when somebody reads it."""

    __slots__ = ("at", "what")

    def __init__(self, at: float, what: "str | Call") -> None:
        self.at = at
        self.what = what

    def __str__(self) -> str:
        if isinstance(self.what, str):
            return f"{self.at:10.4f}  ** {self.what}"
        return f"{self.at:10.4f}  {self.what}"


class Call:
    """A request. It is answered once, by `answer`, or never, by `drop` or without a word."""

    __slots__ = (
        "_cluster",
        "api",
        "began",
        "connection",
        "done",
        "fields",
        "header",
        "node",
        "number",
        "outcome",
        "request",
        "trouble",
    )

    def __init__(self, cluster: "Cluster", node: "Node", connection: Connection, header: Header, request: Any) -> None:
        self._cluster = cluster
        self.node = node
        self.connection = connection
        self.header = header
        self.api = header.key
        self.request = request
        self.trouble: Trouble = NO_TROUBLE
        self.number = cluster.next_call()
        self.began = cluster.now()
        self.done = False
        self.outcome = ""
        self.fields: tuple[Any, ...] = ()

    @property
    def client(self) -> str:
        """The client's process, or what it calls itself."""
        return self.connection.client

    def refused(self, topic: str = "", partition: int = -1) -> Code:
        """Returns the error that was drawn for the request, or for one of its partitions."""
        trouble = self.trouble
        if not trouble.error or (trouble.only is not None and topic and (topic, partition) not in trouble.only):
            return Code.NONE
        return trouble.error

    def partitions(self) -> list[At]:
        """Returns the partitions that the request names."""
        if self.api is Api.METADATA:
            asked = self.request.topics
            names = (
                self._cluster.topics if asked is None else [one if isinstance(one, str) else one[1] for one in asked]
            )
            topics = [self._cluster.topics[name] for name in sorted(names) if name in self._cluster.topics]
            return [one.at for topic in topics for one in topic.partitions]
        if self.api not in WITH_PARTITIONS:
            return []
        found = []
        for topic, partitions in self.request.topics or ():
            found += [(topic, one if isinstance(one, int) else one[0]) for one in partitions]
        return found

    def answer(self, *fields: Any) -> None:
        """Answers with the fields of the response."""
        if self.done:
            return
        self.done = True
        self.fields = fields
        trouble = self.trouble
        if trouble.cut == "after":
            self.done = False
            self.drop("cut before the answer")
        elif trouble.after_s:
            self._cluster.later(trouble.after_s, self._send)
        else:
            self._send()

    def _send(self) -> None:
        if not self.node.up or not self.connection.open:
            self._tell("nobody hears the answer")
            return
        self._tell("")
        self.connection.answer(encode(self.header, self.request, self.fields))

    def skip(self) -> None:
        """Ends a request that wants no answer."""
        self.done = True
        self._tell("no answer asked for")
        self.connection.skip()

    def drop(self, why: str) -> None:
        """Ends it by cutting the connection."""
        self.done = True
        self._tell(why)
        self.connection.cut()

    def _tell(self, outcome: str) -> None:
        self.outcome = outcome
        self._cluster.trace.append(Entry(self._cluster.now(), self))

    def __str__(self) -> str:
        asked = _told(self.request.SCHEMA.names, vars(self.request).values())
        answered = _told(self.request.RESPONSE_TYPE.SCHEMA.names, self.fields) if self.fields else ""
        trouble = f"[{self.trouble}]" if self.trouble is not NO_TROUBLE else ""
        result = "; ".join(filter(None, [answered, self.outcome]))
        return f"{self.node.name} {self.connection!s:<14} {self.api.name} {asked} -> {result} {trouble}".rstrip()


TOLD = {
    "api_versions": None,
    "allow_auto_topic_creation": None,
    "brokers": None,
    "cluster_id": None,
    "controller_id": None,
    "error_message": None,
    "forgotten_topics_data": None,
    "group_protocols": None,
    "host": None,
    "include_cluster_operations": None,
    "include_topic_operations": None,
    "cluster_operations": None,
    "max_bytes": None,
    "min_bytes": None,
    "port": None,
    "protocol_type": None,
    "rack_id": None,
    "replica_id": None,
    "required_acks": None,
    "retention_time": None,
    "session_epoch": None,
    "session_id": None,
    "tags": None,
    "throttle_time_ms": None,
    "timeout": None,
    "timeout_ms": None,
    "transaction_timeout_ms": None,
    "consumer_group": "",
    "consumer_group_generation_id": "generation",
    "consumer_id": "",
    "coordinator_key": "",
    "error_code": "",
    "generation_id": "generation",
    "group": "",
    "member_id": "",
    "topics": "",
}
"""What fields are called in the trace; None leaves one out."""


def _told(names: Any, values: Any) -> str:
    parts = []
    for name, value in zip(names, values, strict=True):
        label = TOLD.get(name, name)
        if label is not None:
            text = Code(value).name if name == "error_code" else _value(value)
            parts.append(f"{label}={text}" if label else text)
    return " ".join(parts)


def _value(value: Any) -> str:
    """A value in short; names that were kept in a set come in their own order."""
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if isinstance(value, dict):
        return ""
    if isinstance(value, list | tuple):
        items = sorted(value) if value and all(isinstance(one, str) for one in value) else value
        opening, closing = "[]" if isinstance(value, list) else "()"
        return opening + " ".join(filter(None, map(_value, items))) + closing
    return value.name if isinstance(value, Code) else str(value)
