"""Topics: made when they are missing, deleted when they were for a while."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamproc.adapters.kafka_client import KafkaOptions, client_options, unreachable
from streamproc.errors import BrokerError

REPLICAS_MAX = 3


@asynccontextmanager
async def _admin(options: KafkaOptions) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**client_options(options))
    try:
        await admin.start()
        yield admin
    except errors.KafkaError as error:
        raise unreachable(options, error) from None
    finally:
        await admin.close()


async def create_topics(
    options: KafkaOptions, topics: Mapping[str, int], configs: Mapping[str, str] | None = None
) -> list[str]:
    """Makes those topics (name -> partitions) that are missing, on up to three brokers; returns their names.

    `configs` are Kafka's settings of a topic, for all of them.
    Raises BrokerError when the broker refuses or does not answer.
    """
    async with _admin(options) as admin:
        brokers = (await admin.describe_cluster())["brokers"]
        replicas = min(REPLICAS_MAX, len(brokers))
        existing = await admin.list_topics()
        missing = [
            NewTopic(topic, count, replicas, topic_configs=dict(configs or {}))
            for topic, count in topics.items()
            if topic not in existing
        ]
        if missing:
            for topic, code, *_ in (await admin.create_topics(missing)).topic_errors:
                kind = errors.for_code(code)
                if kind not in (errors.NoError, errors.TopicAlreadyExistsError):
                    raise BrokerError(f"topic {topic} does not exist and cannot be created ({kind.__name__})")
        return [topic.name for topic in missing]


async def partition_counts(options: KafkaOptions, topics: Sequence[str]) -> dict[str, int]:
    """Topic -> partitions, of those that exist. Raises BrokerError."""
    async with _admin(options) as admin:
        described = await admin.describe_topics(list(topics))
        return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["partitions"]}


async def delete_topics(options: KafkaOptions, topics: Sequence[str]) -> None:
    """Deletes topics. Raises BrokerError when the broker does not answer."""
    async with _admin(options) as admin:
        await admin.delete_topics(list(topics))
