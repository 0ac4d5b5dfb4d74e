"""What a member asks of its group beyond aiokafka's own: the offsets of a whole assignment in one request, where a
group begins, how long its partitions are surely its own, and which topic a name stands for.

aiokafka asks for one partition at a time, takes some errors for "no offset", says nothing of its last heartbeat, and
knows topics by name only. All this touches private parts of aiokafka 0.14.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from contextlib import suppress
from io import BytesIO
from typing import Any, TypeAlias

import aiokafka
from aiokafka import errors
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.group import HeartbeatRequest, LeaveGroupRequest, SyncGroupRequest
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from streamproc.errors import ConfigError

log = logging.getLogger(__name__)

METADATA, OFFSET_COMMIT, JOIN_GROUP, HEARTBEAT, SYNC_GROUP = 3, 8, 11, 12, 14
"""Kinds of requests (kafka.apache.org/protocol#protocol_api_keys)."""
NONE, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS, FENCED_INSTANCE_ID = 0, 25, 27, 82
WAITS = (JOIN_GROUP, SYNC_GROUP)
"""What is answered once all others of the group have come."""
LOST = (22, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID)
"""Answers to a member that the group no longer knows: another generation, member or process took its place."""
NOT_HERE = (14, 15, 16)
"""Answers of a node that is not, or not yet, the group's coordinator."""
FENCES_MAX = 3
"""How often a member may be told, before its first generation is stored, that another has its name."""
UUID_LENGTH = 36
"""What follows the `instance_id` and a dash in the id of a static member, in characters."""
ID = "id="
"""What the metadata of a commit begins with: the id of the topic whose records were read."""

Theirs: TypeAlias = Any
"""A partition as the client names it: an `aiokafka.TopicPartition`."""


class Membership:
    """One member of a group, beside its started client.

    `held_until` is the time, by `tick`, until which the group holds its partitions for it: the session after the last
    heartbeat that was answered, counted from when it was sent. `fenced` is told when another process has taken the
    member's `instance_id`. `succeeds_leader` says that the member leads its group and was not told so.
    """

    def __init__(
        self,
        client: aiokafka.AIOKafkaConsumer,
        *,
        instance_id: str,
        session_s: float,
        tick: Callable[[], float],
        fenced: Callable[[ConfigError], None],
    ) -> None:
        self.held_until = self.unheard_at = 0.0
        self.succeeds_leader = False
        self._is_leader = False
        self._predecessor = ""
        self._client = client._client
        self._coordinator = client._coordinator
        self._instance_id = instance_id
        self._session_s = session_s
        self._tick = tick
        self._fenced = fenced
        self._was_taken = False
        self._stored_as = ""
        self._fences = 0
        self._send = self._coordinator._send_req
        self._coordinator._send_req = self._send_and_note
        self._fetcher = client._fetcher
        self._fetcher._update_fetch_positions = self._put_off

    async def _put_off(self, assignment: Any, _node: int, partitions: Iterable[Theirs]) -> bool:
        """Leaves partitions without a position alone until they are sought to, instead of asking for each by itself."""
        for one in partitions:
            if not assignment.state_value(one).has_valid_position and one not in self._fetcher._records:
                self._fetcher._set_error(one, errors.NoOffsetForPartitionError(one))
        return False

    async def _send_and_note(self, request: Any) -> Any:
        if self._was_taken:  # the client would join again, and throw out the one that took the name
            raise errors.KafkaError("another member has this one's name")
        began = self._tick()
        try:
            response = await (self._send_unless_it_ends if request.API_KEY in WAITS else self._send)(request)
        except BaseException:
            if request.API_KEY == OFFSET_COMMIT:
                self.unheard_at = self._tick()
            raise
        if response.API_KEY == HEARTBEAT:
            await self._believe(response, began)
        elif response.API_KEY in WAITS:
            self._note(response.API_KEY, response.error_code, began)
            if response.API_KEY == JOIN_GROUP:
                self._is_leader = response.error_code == NONE and response.leader_id == response.member_id
                self.succeeds_leader = self._is_successor(response.leader_id, response.member_id)
                self._predecessor = response.leader_id
            if response.API_KEY == SYNC_GROUP and response.error_code == NONE:
                await self._beat_if_late()
        elif response.API_KEY == OFFSET_COMMIT:
            for _, partitions in response.topics:
                for _, code in partitions:
                    self._note(OFFSET_COMMIT, code, began)
        if getattr(response, "error_code", NONE) == FENCED_INSTANCE_ID:
            response.error_code = UNKNOWN_MEMBER_ID  # the client does not know the other, and is to join again
        return response

    async def _send_unless_it_ends(self, request: Any) -> Any:
        """Sends a join or a sync.

        A member that is told to end meanwhile leaves: the group would give it partitions that nobody reads.
        """
        of = self._coordinator
        node, sending = of.coordinator_id, asyncio.ensure_future(self._send(request))
        try:
            await asyncio.wait([sending, of._closing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
        if sending.done():
            return sending.result()
        if of.member_id and not self._instance_id:
            leave = LeaveGroupRequest(of.group_id, of.member_id)
            with suppress(errors.KafkaError):  # by the other connection, which does not wait for the answer, too
                await self._client.send(node, leave)
        of.reset_generation()
        raise errors.KafkaError("it ends, and waits for its group no more")

    def _is_successor(self, leader_id: str, member_id: str) -> bool:
        """Whether the leader that a join names is an earlier member of this name.

        A static member that comes back takes its place without a rebalance, and is not told that it leads
        (KIP-814 tells newer clients).
        """
        if not self._instance_id or leader_id in (member_id, self._predecessor):  # once for each is enough
            return False
        prefix = f"{self._instance_id}-"
        return leader_id.startswith(prefix) and len(leader_id) == len(prefix) + UUID_LENGTH

    async def _beat_if_late(self) -> None:
        """Sends a heartbeat out of turn where the join has used up much of the session that it brought."""
        began, of = self._tick(), self._coordinator
        if self.held_until - began < self._session_s / 2:
            with suppress(errors.KafkaError):  # the next one will tell
                beat = await self._send(HeartbeatRequest(of.group_id, of.generation, of.member_id))
                await self._believe(beat, began)

    async def _believe(self, beat: Any, began: float) -> None:
        """Takes note of what a heartbeat was answered.

        A coordinator that is loading its groups accepts every heartbeat, so a member that has missed its session must
        not take one for the news that it is still known: it asks again, unless it is about to join anyway.
        """
        if beat.error_code == NONE and self.held_until < began:
            if self._coordinator._rejoin_needed_fut.done():
                return
            beat.error_code = await self._confirmed()
        self._note(HEARTBEAT, beat.error_code, began)

    async def _confirmed(self) -> int:
        """Returns the code of a SyncGroup, which repeats the assignment of a member in good standing.

        Raises KafkaError where the answer says neither.
        """
        of = self._coordinator
        request = SyncGroupRequest(of.group_id, of.generation, of.member_id, of._group_instance_id, [])
        code = int((await self._send(request)).error_code)
        if code not in (NONE, *LOST):
            self._check(code)
        return code

    def _note(self, kind: int, code: int, began: float) -> None:
        if code in LOST:
            if self._is_taken(code, began):
                self._was_taken = True
                self._fenced(
                    ConfigError(
                        f"another process has joined group {self._coordinator.group_id!r} as kafka.instance_id ="
                        f" {self._instance_id!r}: give each process an instance_id of its own"
                    )
                )
            self.held_until = 0.0
            self._fences += code == FENCED_INSTANCE_ID
        elif kind == SYNC_GROUP and code == NONE:  # which does not begin the session anew
            self._stored_as, self._fences = self._coordinator.member_id, 0
        elif (kind, code) in ((JOIN_GROUP, NONE), (HEARTBEAT, NONE), (HEARTBEAT, REBALANCE_IN_PROGRESS)):
            self.held_until = max(self.held_until, began + self._session_s)

    def _is_taken(self, code: int, began: float) -> bool:
        """Whether the answer means that somebody else has this member's name.

        aiokafka sends the name with joins only. A member that heeds its heartbeats and is unknown all the same, out of
        the blue, was replaced by a namesake. One that has never synced need not be: a coordinator stores its members
        when it answers their SyncGroup, so that one which takes over before knows nobody of that name, or an earlier
        member of this very process.
        """
        if not self._instance_id or self._coordinator._closing.done():
            return False
        is_stored = self._coordinator.member_id == self._stored_as
        if code == FENCED_INSTANCE_ID:
            return is_stored or self._fences >= FENCES_MAX
        is_calm = not self._coordinator._rejoin_needed_fut.done() and began < self.held_until
        return code == UNKNOWN_MEMBER_ID and is_calm and is_stored

    @property
    def generation(self) -> int:
        """The generation of the group that the member last joined."""
        return int(self._coordinator.generation)

    def leads(self) -> Set[str]:
        """Returns the topics of the whole group where this member leads it, else nothing.

        The client keeps the topics where it led a generation before, and its next join named another.
        """
        return frozenset((self._is_leader and self._coordinator._group_subscription) or ())

    def rejoin(self) -> None:
        """Asks for a rebalance."""
        self._coordinator.request_rejoin()

    async def committed(
        self, partitions: Iterable[Theirs]
    ) -> tuple[dict[Theirs, tuple[int, str]], dict[Theirs, Exception]]:
        """Returns offset and metadata of the partitions that have a commit, and the errors of those that tell none.

        Raises KafkaError where the answer is no answer: an error is never taken for "no commit".
        """
        asked = set(partitions)
        request = OffsetFetchRequest(self._coordinator.group_id, _by_topic((one, one.partition) for one in asked))
        response = await self._ask(request)
        self._check(getattr(response, "error_code", NONE))
        found: dict[Theirs, tuple[int, str]] = {}
        refused: dict[Theirs, Exception] = {}
        for topic, answers in response.topics:
            for number, offset, metadata, code in answers:
                one = aiokafka.TopicPartition(topic, number)
                asked.discard(one)
                error = errors.for_code(code)
                if error is errors.TopicAuthorizationFailedError:
                    refused[one] = error(topic)
                elif code != NONE:
                    self._check(code)
                elif offset >= 0:
                    found[one] = (offset, metadata or "")
        if asked:
            raise errors.KafkaError(f"the coordinator did not say where {len(asked)} partitions stand")
        return found, refused

    async def commit(self, offsets: Mapping[Theirs, int], metadata: Callable[[str], str], *, generation: int) -> None:
        """Commits offsets of any partitions of the group, which need not be this member's. Raises KafkaError."""
        await self._coordinator.ensure_coordinator_known()
        if generation != self.generation:
            raise errors.IllegalGenerationError
        request = OffsetCommitRequest(
            self._coordinator.group_id,
            generation,
            self._coordinator.member_id,
            OffsetCommitRequest.DEFAULT_RETENTION_TIME,
            _by_topic((one, (one.partition, offset, metadata(one.topic))) for one, offset in offsets.items()),
        )
        response = await self._ask(request)
        for _, answers in response.topics:
            for _, code in answers:
                self._check(code)

    async def _ask(self, request: Any) -> Any:
        await self._coordinator.ensure_coordinator_known()
        return await self._coordinator._send_req(request)

    def _check(self, code: int) -> None:
        if code in NOT_HERE:
            self._coordinator.coordinator_dead()
        if code != NONE:
            raise errors.for_code(code)

    async def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """Returns the id of each topic, in hexadecimal; none where the broker tells none (before Kafka 2.8).

        A topic that is deleted and made anew has the same name and another id. Raises KafkaError.
        """
        node = self._client.get_random_node()
        if node is None or not topics:
            return {}
        try:
            response = await self._client.send(node, _TopicIdsRequest(topics))
        except (NotImplementedError, errors.IncompatibleBrokerVersion):
            return {}
        return {name: topic_id.hex() for code, name, topic_id, *_ in response.topics if code == NONE and any(topic_id)}


def _by_topic(items: Iterable[tuple[Theirs, Any]]) -> list[tuple[str, list[Any]]]:
    topics: dict[str, list[Any]] = defaultdict(list)
    for one, item in items:
        topics[one.topic].append(item)
    return [(topic, sorted(topics[topic])) for topic in sorted(topics)]


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


_NAME, _NUMBERS, _TAGS = CompactString("utf-8"), CompactArray(Int32), ("tags", TaggedFields)


class _TopicIdsResponse_v10(Response):  # type: ignore[misc]
    API_KEY = METADATA
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(("node_id", Int32), ("host", _NAME), ("port", Int32), ("rack", _NAME), _TAGS)),
        ("cluster_id", _NAME),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _NAME),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", _NUMBERS),
                        ("isr", _NUMBERS),
                        ("offline_replicas", _NUMBERS),
                        _TAGS,
                    ),
                ),
                ("operations", Int32),
                _TAGS,
            ),
        ),
        ("cluster_operations", Int32),
        _TAGS,
    )


class _TopicIdsRequest_v10(RequestStruct):  # type: ignore[misc]
    API_KEY = METADATA
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _TopicIdsResponse_v10
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _NAME), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_operations", Boolean),
        ("include_topic_operations", Boolean),
        _TAGS,
    )


class _TopicIdsRequest(Request[_TopicIdsRequest_v10]):  # type: ignore[misc]
    API_KEY = METADATA

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([(bytes(16), topic, {}) for topic in sorted(self._topics)], False, False, False, {})
