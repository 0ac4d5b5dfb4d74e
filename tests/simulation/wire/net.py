"""Connections in memory: they take time, keep their order, and can be cut or fall silent."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from tests.simulation.wire.loop import PROCESS, Process, WireLoop

LATENCY_S = 0.000_5
"""One way."""
NOBODY = contextvars.Context()
"""In which the network and the nodes run, whoever has called them."""


class Node(Protocol):
    """What listens at an address."""

    name: str
    up: bool

    def arrived(self, connection: "Connection", frame: bytes) -> None:
        """Takes a request; it is the only one of its connection until `Connection.answer` or `Connection.skip`."""


class Connection(asyncio.Transport):
    """One connection. The client's end is a transport; the node handles its requests one after the other."""

    def __init__(self, network: "Network", node: Node, protocol: Any, process: Process | None, number: int) -> None:
        super().__init__()
        self.node = node
        self.process = process
        self.client = process.name if process else ""
        """The client's process, or else what it calls itself."""
        self.number = number
        self.open = True
        self.is_busy = False
        self._network = network
        self._loop = network.loop
        self._protocol = protocol
        self._sent = bytearray()
        self._towards_node: deque[bytes | None] = deque()
        self._towards_client: deque[bytes | None] = deque()
        self._waiting: deque[bytes] = deque()
        self._is_closing = False

    def __str__(self) -> str:
        return f"{self.client or '?'}#{self.number}"

    # the client's end

    def write(self, data: Any) -> None:
        """Sends. Raises RuntimeError when closed, as uvloop's transports do, and asyncio's do not."""
        if self._is_closing:
            raise RuntimeError("the handler is closed")
        sent = self._sent
        sent += data
        while len(sent) >= 4 and len(sent) >= (size := 4 + int.from_bytes(sent[:4])):
            self._push(self._towards_node, bytes(sent[4:size]), self._reached_node)
            del sent[:size]

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._push(self._towards_node, None, self._reached_node)
            self._loop.call_soon(self._lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._is_closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    # the node's end

    def answer(self, frame: bytes) -> None:
        """Sends an answer, and takes the next request."""
        if self.open:
            self._push(self._towards_client, frame, self._reached_client)
        self.skip()

    def skip(self) -> None:
        """Takes the next request without an answer to this one."""
        self.is_busy = False
        self._take()

    def cut(self) -> None:
        """Resets the connection. What is on its way to the client still arrives."""
        if self.open:
            self.open = False
            self._waiting.clear()
            self._push(self._towards_client, None, self._reached_client)

    # between them

    def _push(self, way: "deque[Any]", item: Any, then: Callable[[], None]) -> None:
        way.append(item)
        self._loop.call_later(self._network.latency_s, then, context=NOBODY)

    def flush(self) -> None:
        """Delivers what was held while the network was silent."""
        for way, then in ((self._towards_node, self._reached_node), (self._towards_client, self._reached_client)):
            for _ in range(len(way)):
                self._loop.call_later(self._network.latency_s, then, context=NOBODY)

    def _reached_node(self) -> None:
        if not self._towards_node or self._network.is_silent(self.client, self.node.name):
            return
        frame = self._towards_node.popleft()
        if not self.open:
            return
        if frame is None:
            self.open = False
            self._waiting.clear()
            self._network.forget(self)
        else:
            self._waiting.append(frame)
            self._take()

    def _take(self) -> None:
        if self._waiting and not self.is_busy:
            self.is_busy = True
            self.node.arrived(self, self._waiting.popleft())

    def _reached_client(self) -> None:
        if not self._towards_client or self._network.is_silent(self.client, self.node.name):
            return
        frame = self._towards_client.popleft()
        if frame is None:
            self._network.forget(self)
        if self._is_closing or (self.process is not None and self.process.dead):
            return
        if frame is None:
            self._is_closing = True
            self._loop.call_soon(self._lost, ConnectionResetError("connection reset by peer"))
        else:
            self._protocol.data_received(frame)

    def _lost(self, error: Exception | None) -> None:
        self._protocol.connection_lost(error)

    def hang_up(self) -> None:
        """Ends the client's side of a process that is dead: the node sees the end of the stream."""
        if not self._is_closing:
            self._is_closing = True
            self._push(self._towards_node, None, self._reached_node)


class Network:
    """Connects clients to nodes by host and port. `latency_s` is one way."""

    def __init__(self, loop: WireLoop, latency_s: float = LATENCY_S) -> None:
        self.loop = loop
        self.latency_s = latency_s
        self.connections: list[Connection] = []
        self._nodes: dict[tuple[str, int], Node] = {}
        self._silent: list[tuple[str, str]] = []
        self._count = 0
        loop.network = self

    def listen(self, host: str, port: int, node: Node) -> None:
        """Puts a node at an address."""
        self._nodes[host, port] = node

    async def connect(self, protocol: Any, host: str, port: int) -> Connection:
        """Connects. Raises ConnectionRefusedError when nothing runs there; a silent network never answers."""
        node = self._nodes.get((host, port))
        process = PROCESS.get()
        while node is not None and self.is_silent(process.name if process else "", node.name):
            await asyncio.sleep(1.0)  # as a SYN that is sent again
        await asyncio.sleep(2 * self.latency_s)
        if node is None or not node.up:
            raise ConnectionRefusedError(f"nothing listens at {host}:{port}")
        self._count += 1
        connection = Connection(self, node, protocol, process, self._count)
        self.connections.append(connection)
        protocol.connection_made(connection)
        return connection

    def forget(self, connection: Connection) -> None:
        """Drops a connection that has ended."""
        if connection in self.connections:
            self.connections.remove(connection)

    def silence(self, client: str = "", node: str = "", *, for_s: float = 0.0) -> None:
        """Holds all bytes between a client and a node, each of them all when empty, until `restore` or for a time."""
        self._silent.append((client, node))
        if for_s:
            self.loop.call_later(for_s, partial(self.restore, client, node), context=NOBODY)

    def restore(self, client: str = "", node: str = "") -> None:
        """Lets the bytes pass again; those that were held arrive."""
        if (client, node) in self._silent:
            self._silent.remove((client, node))
        for connection in list(self.connections):
            if not self.is_silent(connection.client, connection.node.name):
                connection.flush()

    def is_silent(self, client: str, node: str) -> bool:
        """Returns True if bytes between the two are held."""
        return bool(self._silent) and any(one in ("", client) and other in ("", node) for one, other in self._silent)

    def cut(self, client: str = "", node: str = "") -> None:
        """Resets all connections between a client and a node, each of them all when empty."""
        for connection in list(self.connections):
            if client in ("", connection.client) and node in ("", connection.node.name):
                connection.cut()

    def hang_up(self, process: Process) -> None:
        """Ends the connections of a process that is dead."""
        for connection in list(self.connections):
            if connection.process is process:
                connection.hang_up()
