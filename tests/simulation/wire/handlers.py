"""What each kind of request does. A handler returns the fields of its answer; None when that comes later or never."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tests.simulation.wire.call import Call
from tests.simulation.wire.groups import METADATA_BYTES_MAX, Joining, State
from tests.simulation.wire.log import TopicConfig
from tests.simulation.wire.protocol import OFFERED, Api, Code

if TYPE_CHECKING:
    from tests.simulation.wire.cluster import Cluster, Partition

At = tuple[str, int]
Fields = tuple[Any, ...] | None
ISOLATED = 1
EARLIEST, LATEST = -2, -1
NEVER = 2**31


def _by_topic(cluster: "Cluster", call: Call, row: Callable[[str, Any], tuple[Any, ...]]) -> list[Any]:
    """One row of the answer for each partition of the request."""
    return [(topic, [row(topic, one) for one in partitions]) for topic, partitions in call.request.topics]


def _found(cluster: "Cluster", call: Call, at: At, operation: str) -> "Partition | Code":
    """Returns the partition that this node leads, or why not."""
    if cluster.is_denied(at[0], operation):
        return Code.TOPIC_AUTHORIZATION_FAILED
    partition = cluster.partition(at)
    if partition is None:
        return Code.UNKNOWN_TOPIC_OR_PARTITION
    return partition if partition.leader == call.node.number else Code.NOT_LEADER_OR_FOLLOWER


# the cluster


def api_versions(cluster: "Cluster", call: Call) -> Fields:
    return Code.NONE, [(api, low, high) for api, (low, high) in OFFERED.items()]


def metadata(cluster: "Cluster", call: Call) -> Fields:
    by_id = call.request.API_VERSION >= 10
    asked = call.request.topics
    names = sorted(cluster.topics if asked is None else (one[1] if by_id else one for one in asked))
    brokers = [(number, cluster.nodes[number].host, cluster.nodes[number].port, None) for number in cluster.alive]
    topics = [_described(cluster, call, name, by_id=by_id) for name in names]
    controller = brokers[0][0]
    if by_id:
        brokers = [(*broker, {}) for broker in brokers]  # type: ignore[misc]
        return 0, brokers, "wire", controller, topics, -(2**31), {}
    return 0, brokers, "wire", controller, topics


def _described(cluster: "Cluster", call: Call, name: str, *, by_id: bool) -> tuple[Any, ...]:
    topic = cluster.topics.get(name)
    drawn = call.refused(name)
    code = Code.NONE if drawn is Code.LEADER_NOT_AVAILABLE else drawn
    if cluster.is_denied(name, "describe"):
        code = Code.TOPIC_AUTHORIZATION_FAILED
    elif topic is None:
        code = Code.UNKNOWN_TOPIC_OR_PARTITION
    nodes = sorted(cluster.nodes)
    partitions: list[tuple[Any, ...]] = []
    for one in topic.partitions if topic is not None and not code else ():
        is_led = one.told in cluster.alive and call.refused(name, one.number) is not Code.LEADER_NOT_AVAILABLE
        leader = one.told if is_led else -1
        error = Code.NONE if leader >= 0 else Code.LEADER_NOT_AVAILABLE
        if by_id:
            partitions.append((error, one.number, leader, one.log.leader_epoch, nodes, cluster.alive, [], {}))
        else:
            partitions.append((error, one.number, leader, nodes, cluster.alive, []))
    if by_id:
        return code, name, topic.id if topic is not None else bytes(16), False, partitions, -(2**31), {}
    return code, name, False, partitions


def find_coordinator(cluster: "Cluster", call: Call) -> Fields:
    key = call.request.coordinator_key
    if cluster.is_denied(key, "describe"):
        return 0, Code.GROUP_AUTHORIZATION_FAILED, None, -1, "", -1
    number = cluster.coordinator(key)
    code = call.refused() or (Code.NONE if number in cluster.alive else Code.COORDINATOR_NOT_AVAILABLE)
    if code:
        return 0, code, None, -1, "", -1
    node = cluster.nodes[number]
    return 0, Code.NONE, None, number, node.host, node.port


def create_topics(cluster: "Cluster", call: Call) -> Fields:
    answers = []
    for name, count, _, assignment, configs in call.request.create_topic_requests:
        try:
            code = Code.TOPIC_ALREADY_EXISTS if name in cluster.topics else Code.NONE
            config = _config(dict(configs))
        except ValueError:
            code = Code.INVALID_CONFIG
        if not code and not call.request.validate_only:
            cluster.create_topic(name, len(assignment) or max(1, count), config)
        answers.append((name, code, None))
    return 0, answers


CONFIGS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "max.message.bytes": ("record_bytes_max", int),
    "message.timestamp.type": ("append_time", lambda text: text == "LogAppendTime"),
    "message.timestamp.after.max.ms": ("ahead_ms_max", int),
    "message.timestamp.before.max.ms": ("behind_ms_max", int),
    "retention.ms": ("retention_ms", int),
    "cleanup.policy": ("compacted", lambda text: "compact" in text),
}
"""The settings of a topic that have a meaning here."""


def _config(given: Mapping[str, str]) -> TopicConfig:
    config = TopicConfig()
    for name, text in given.items():
        if name in CONFIGS:
            field, read = CONFIGS[name]
            setattr(config, field, read(text))
    return config


def delete_topics(cluster: "Cluster", call: Call) -> Fields:
    answers = []
    for name in call.request.topics:
        code = Code.NONE if name in cluster.topics else Code.UNKNOWN_TOPIC_OR_PARTITION
        if not code:
            cluster.delete_topic(name)
        answers.append((name, code))
    return 0, answers


def create_partitions(cluster: "Cluster", call: Call) -> Fields:
    answers = []
    for name, (count, _) in call.request.topic_partitions:
        topic, code = cluster.topics.get(name), Code.NONE
        if topic is None:
            code = Code.UNKNOWN_TOPIC_OR_PARTITION
        elif count <= len(topic.partitions):
            code = Code.INVALID_PARTITIONS
        elif not call.request.validate_only:
            cluster.grow_topic(name, count)
        answers.append((name, code, None))
    return 0, answers


def delete_records(cluster: "Cluster", call: Call) -> Fields:
    topics: list[Any] = []
    for name, partitions, _ in call.request.topics:
        rows: list[Any] = []
        for number, offset, _ in partitions:
            found = _found(cluster, call, (name, number), "write")
            if isinstance(found, Code):
                rows.append((number, -1, found, {}))
            elif offset > found.log.end:
                rows.append((number, -1, Code.OFFSET_OUT_OF_RANGE, {}))
            else:
                cluster.trim(found.at, found.log.end if offset < 0 else offset)
                rows.append((number, found.log.start, Code.NONE, {}))
        topics.append((name, rows, {}))
    return 0, topics, {}


def describe_configs(cluster: "Cluster", call: Call) -> Fields:
    resources: list[Any] = []
    for kind, name, wanted in call.request.resources:
        topic = cluster.topics.get(name)
        if kind != 2 or topic is None:
            resources.append((Code.UNKNOWN_TOPIC_OR_PARTITION, None, kind, name, []))
            continue
        config = topic.config
        values = {
            "max.message.bytes": str(config.record_bytes_max),
            "message.timestamp.type": "LogAppendTime" if config.append_time else "CreateTime",
            "message.timestamp.after.max.ms": str(config.ahead_ms_max),
            "message.timestamp.before.max.ms": str(config.behind_ms_max),
            "retention.ms": str(config.retention_ms),
            "cleanup.policy": "compact" if config.compacted else "delete",
        }
        entries: list[Any] = [
            (key, value, False, 5, False, []) for key, value in values.items() if wanted is None or key in wanted
        ]
        resources.append((Code.NONE, None, kind, name, entries))
    return 0, resources


# records


def produce(cluster: "Cluster", call: Call) -> Fields:
    def row(topic: str, asked: tuple[int, bytes]) -> tuple[Any, ...]:
        number, raw = asked
        code, base, stamp = _produced(cluster, call, (topic, number), raw or b"")
        refused = call.refused(topic, number)
        if refused and not code:
            return number, refused, -1, -1, -1
        partition = cluster.partition((topic, number))
        return number, code, base, stamp, partition.log.start if partition is not None and not code else -1

    rows = _by_topic(cluster, call, row)
    if call.request.required_acks == 0:
        call.skip()
        return None
    return rows, 0


def _produced(cluster: "Cluster", call: Call, at: At, raw: bytes) -> tuple[Code, int, int]:
    found = _found(cluster, call, at, "write")
    if isinstance(found, Code):
        return found, -1, -1
    if call.refused(*at) and not call.trouble.effect:
        return Code.NONE, -1, -1
    log = found.log
    end = log.end
    code, base = log.append(raw, cluster.now_ms())
    if log.end > end:
        cluster.watcher.appended(at, log.batches[-1], call.client)
        found.wake()
    return code, base, log.batches[-1].max_timestamp if log.config.append_time and not code else -1


def list_offsets(cluster: "Cluster", call: Call) -> Fields:
    committed = call.request.isolation_level == ISOLATED

    def row(topic: str, asked: tuple[int, int]) -> tuple[Any, ...]:
        number, timestamp = asked
        found = _found(cluster, call, (topic, number), "describe")
        if not isinstance(found, Code):
            found = call.refused(topic, number) or found
        if isinstance(found, Code):
            return number, found, -1, -1
        if timestamp == EARLIEST:
            return number, Code.NONE, -1, found.log.start
        if timestamp == LATEST:
            return number, Code.NONE, -1, found.log.limit(committed=committed)
        return number, Code.NONE, *found.log.find(timestamp, committed=committed)

    return 0, _by_topic(cluster, call, row)


class Fetching:
    """A fetch. It is answered as soon as it has enough to tell, or at its longest wait."""

    def __init__(self, cluster: "Cluster", call: Call) -> None:
        self._cluster = cluster
        self._call = call
        self._watched: list[Partition] = []
        self._timer: Any = None

    def begin(self) -> None:
        """Answers at once, or waits."""
        request = self._call.request
        rows, size, is_final = self._read()
        if is_final or size >= request.min_bytes or not request.max_wait_time:
            self._call.answer(0, Code.NONE, 0, rows)
            return
        self._timer = self._cluster.later(request.max_wait_time / 1000, self._end)
        for partition in self._watched:
            partition.waiting[self._call.number] = self._look

    def _look(self) -> None:
        rows, size, is_final = self._read()
        if is_final or size >= self._call.request.min_bytes:
            self._end(rows)

    def _end(self, rows: list[Any] | None = None) -> None:
        self._timer.cancel()
        for partition in self._watched:
            partition.waiting.pop(self._call.number, None)
        self._call.answer(0, Code.NONE, 0, self._read()[0] if rows is None else rows)

    def _read(self) -> tuple[list[Any], int, bool]:
        """Returns the rows of the answer, the bytes of records in it, and whether an error wants to be told now."""
        call, request = self._call, self._call.request
        is_first = not self._watched
        left, size, is_final = request.max_bytes, 0, not request.topics
        topics = []
        for topic, partitions in request.topics:
            rows = []
            for number, _, offset, _, max_bytes in partitions:
                found = _found(self._cluster, call, (topic, number), "read")
                if not isinstance(found, Code):
                    if is_first:
                        self._watched.append(found)
                    row, taken = self._of(found, offset, min(max_bytes, left), at_least_one=size == 0)
                else:
                    row, taken = (number, found, -1, -1, -1, None, -1, b""), 0
                is_final = is_final or bool(row[1])
                size, left = size + taken, left - taken
                rows.append(row)
            topics.append((topic, rows))
        return topics, size, is_final

    def _of(
        self, found: "Partition", offset: int, max_bytes: int, *, at_least_one: bool
    ) -> tuple[tuple[Any, ...], int]:
        log, committed = found.log, self._call.request.isolation_level == ISOLATED
        code = self._call.refused(*found.at)
        if not code and not log.start <= offset <= log.end:
            code = Code.OFFSET_OUT_OF_RANGE
        if code:
            return (found.number, code, -1, -1, -1, None, -1, b""), 0
        raw = log.read(offset, max(0, max_bytes), committed=committed, at_least_one=at_least_one)
        aborted = log.aborted_between(offset, log.stable_end) if committed else None
        return (found.number, Code.NONE, log.end, log.stable_end, log.start, aborted, -1, raw), len(raw)


def fetch(cluster: "Cluster", call: Call) -> Fields:
    Fetching(cluster, call).begin()
    return None


# groups


def _not_here(cluster: "Cluster", call: Call, key: str, operation: str = "read") -> Code:
    """Returns why this node does not answer for a group."""
    if cluster.is_denied(key, operation):
        return Code.GROUP_AUTHORIZATION_FAILED
    if call.trouble.error and not call.trouble.effect and call.trouble.only is None:
        return call.trouble.error
    if cluster.coordinator(key) != call.node.number:
        return Code.NOT_COORDINATOR
    return Code.COORDINATOR_LOAD_IN_PROGRESS if key in cluster.loading else Code.NONE


def join_group(cluster: "Cluster", call: Call) -> Fields:
    asks = call.request

    def answer(
        code: Code,
        generation: int = -1,
        protocol: str | None = "",
        leader: str | None = "",
        member_id: str = "",
        members: Any = (),
    ) -> None:
        call.answer(0, code, generation, protocol or "", leader or "", member_id, list(members))

    code = _not_here(cluster, call, asks.group)
    shortest, longest = cluster.session_s
    if not code and not shortest <= asks.session_timeout / 1000 <= longest:
        code = Code.INVALID_SESSION_TIMEOUT
    if not code and asks.member_id and asks.group not in cluster.groups:
        code = Code.UNKNOWN_MEMBER_ID
    if code:
        answer(code, member_id=asks.member_id)
        return None
    cluster.group(asks.group).join(
        Joining(
            call.header.client_id,
            asks.member_id,
            asks.group_instance_id,
            asks.session_timeout / 1000,
            asks.rebalance_timeout / 1000,
            asks.protocol_type,
            list(asks.group_protocols),
            answer,
        )
    )
    return None


def sync_group(cluster: "Cluster", call: Call) -> Fields:
    asks = call.request

    def answer(code: Code, assignment: bytes = b"") -> None:
        refused = call.refused()  # after the effect
        call.answer(0, refused or code, b"" if refused else assignment)

    if code := _not_here(cluster, call, asks.group):
        return 0, code, b""
    if asks.group not in cluster.groups:
        return 0, Code.UNKNOWN_MEMBER_ID, b""
    group = cluster.groups[asks.group]
    group.sync(asks.member_id, asks.group_instance_id, asks.generation_id, asks.group_assignment, answer)
    return None


def heartbeat(cluster: "Cluster", call: Call) -> Fields:
    asks = call.request
    code = _not_here(cluster, call, asks.group)
    if code is Code.COORDINATOR_LOAD_IN_PROGRESS:
        return 0, Code.NONE  # a group that is loading answers blindly
    if not code and asks.group not in cluster.groups:
        code = Code.UNKNOWN_MEMBER_ID
    return 0, code or cluster.groups[asks.group].heartbeat(asks.member_id, asks.generation_id)


def leave_group(cluster: "Cluster", call: Call) -> Fields:
    asks = call.request
    code = _not_here(cluster, call, asks.group)
    if not code and asks.group not in cluster.groups:
        code = Code.UNKNOWN_MEMBER_ID
    return 0, code or cluster.groups[asks.group].leave(asks.member_id)


def offset_commit(cluster: "Cluster", call: Call) -> Fields:
    asks, client = call.request, call.client
    name, generation, member_id = asks.consumer_group, asks.consumer_group_generation_id, asks.consumer_id
    code = _not_here(cluster, call, name)
    if not code and name not in cluster.groups and generation >= 0:
        code = Code.ILLEGAL_GENERATION
    if not code:
        code = cluster.group(name).check_commit(member_id, generation)
    taken: dict[At, tuple[int, str]] = {}

    def row(topic: str, asked: tuple[int, int, str]) -> tuple[Any, ...]:
        number, offset, text = asked
        refused = call.refused(topic, number)
        if code or (refused and not call.trouble.effect):
            return number, code or refused
        if cluster.is_denied(topic, "read"):
            return number, Code.TOPIC_AUTHORIZATION_FAILED
        if cluster.partition((topic, number)) is None:
            return number, Code.UNKNOWN_TOPIC_OR_PARTITION
        if len(text or "") > METADATA_BYTES_MAX:
            return number, Code.OFFSET_METADATA_TOO_LARGE
        taken[topic, number] = (offset, text or "")
        return number, refused

    rows = _by_topic(cluster, call, row)
    if taken:
        cluster.group(name).offsets.update(taken)
        offsets = {at: offset for at, (offset, _) in taken.items()}
        cluster.watcher.committed(name, client, member_id, generation, offsets)
    return 0, rows


def offset_fetch(cluster: "Cluster", call: Call) -> Fields:
    name, asked = call.request.consumer_group, call.request.topics
    if code := _not_here(cluster, call, name, "describe"):
        return 0, [], code  # no word of any partition
    offsets = cluster.groups[name].offsets if name in cluster.groups else {}
    if asked is None:
        topics: dict[str, list[int]] = {}
        for topic, number in sorted(offsets):
            topics.setdefault(topic, []).append(number)
        asked = list(topics.items())
    rows = []
    for topic, numbers in asked:
        row: list[Any] = []
        for number in numbers:
            offset, text = offsets.get((topic, number), (-1, ""))
            if cluster.is_denied(topic, "describe"):
                row.append((number, -1, "", Code.TOPIC_AUTHORIZATION_FAILED))
            else:
                row.append((number, offset, text, Code.NONE))
        rows.append((topic, row))
    return 0, rows, Code.NONE


def list_groups(cluster: "Cluster", call: Call) -> Fields:
    here = [group for group in cluster.groups.values() if cluster.coordinator(group.name) == call.node.number]
    return 0, Code.NONE, [(group.name, group.protocol_type) for group in here]


def describe_groups(cluster: "Cluster", call: Call) -> Fields:
    answers: list[Any] = []
    for name in call.request.groups:
        group = cluster.groups.get(name)
        code = _not_here(cluster, call, name, "describe")
        if code or group is None:
            answers.append((code, name, "" if code else "Dead", "", "", []))
            continue
        is_settled = group.state is State.STABLE
        members = [
            (one.id, one.client, "/memory", one.metadata(group.protocol or "") if is_settled else b"", one.assignment)
            for one in group.members.values()
        ]
        answers.append((code, name, group.state.value, group.protocol_type, group.protocol or "", members))
    return 0, answers


# transactions


def init_producer_id(cluster: "Cluster", call: Call) -> Fields:
    name = call.request.transactional_id
    code = _not_here(cluster, call, name) if name is not None else call.refused()
    if code:
        return 0, code, -1, -1
    return 0, Code.NONE, *cluster.transactions.init(name, call.request.transaction_timeout_ms / 1000)


def _checked(cluster: "Cluster", call: Call) -> Code:
    asks = call.request
    return _not_here(cluster, call, asks.transactional_id) or cluster.transactions.check(
        asks.transactional_id, asks.producer_id, asks.producer_epoch
    )


def add_partitions_to_txn(cluster: "Cluster", call: Call) -> Fields:
    code = _checked(cluster, call)

    def row(topic: str, number: int) -> tuple[Any, ...]:
        if code:
            return number, code
        if cluster.partition((topic, number)) is None:
            return number, Code.UNKNOWN_TOPIC_OR_PARTITION
        cluster.transactions.add(call.request.transactional_id, (topic, number))
        return number, Code.NONE

    return 0, _by_topic(cluster, call, row)


def add_offsets_to_txn(cluster: "Cluster", call: Call) -> Fields:
    code = _checked(cluster, call)
    if not code:
        cluster.transactions.add(call.request.transactional_id, None)
    return 0, code


def txn_offset_commit(cluster: "Cluster", call: Call) -> Fields:
    asks = call.request
    code = _not_here(cluster, call, asks.group_id) or cluster.transactions.check(
        asks.transactional_id, asks.producer_id, asks.producer_epoch
    )
    offsets: dict[At, tuple[int, str]] = {}

    def row(topic: str, asked: tuple[int, int, str]) -> tuple[Any, ...]:
        if not code:
            offsets[topic, asked[0]] = (asked[1], asked[2] or "")
        return asked[0], code

    rows = _by_topic(cluster, call, row)
    if offsets:
        cluster.transactions.add_offsets(asks.transactional_id, asks.group_id, offsets)
    return 0, rows


def end_txn(cluster: "Cluster", call: Call) -> Fields:
    code = _checked(cluster, call)
    if not code:
        code = cluster.transactions.end(call.request.transactional_id, commit=call.request.transaction_result)
    return 0, code


HANDLERS: Mapping[Api, Callable[["Cluster", Call], Fields]] = {
    Api.PRODUCE: produce,
    Api.FETCH: fetch,
    Api.LIST_OFFSETS: list_offsets,
    Api.METADATA: metadata,
    Api.OFFSET_COMMIT: offset_commit,
    Api.OFFSET_FETCH: offset_fetch,
    Api.FIND_COORDINATOR: find_coordinator,
    Api.JOIN_GROUP: join_group,
    Api.HEARTBEAT: heartbeat,
    Api.LEAVE_GROUP: leave_group,
    Api.SYNC_GROUP: sync_group,
    Api.DESCRIBE_GROUPS: describe_groups,
    Api.LIST_GROUPS: list_groups,
    Api.API_VERSIONS: api_versions,
    Api.CREATE_TOPICS: create_topics,
    Api.DELETE_TOPICS: delete_topics,
    Api.DELETE_RECORDS: delete_records,
    Api.INIT_PRODUCER_ID: init_producer_id,
    Api.ADD_PARTITIONS_TO_TXN: add_partitions_to_txn,
    Api.ADD_OFFSETS_TO_TXN: add_offsets_to_txn,
    Api.END_TXN: end_txn,
    Api.TXN_OFFSET_COMMIT: txn_offset_commit,
    Api.DESCRIBE_CONFIGS: describe_configs,
    Api.CREATE_PARTITIONS: create_partitions,
}
