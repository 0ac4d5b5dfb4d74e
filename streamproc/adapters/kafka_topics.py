"""Topics made when they are missing."""

from collections.abc import Mapping

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamproc.adapters.kafka_client import KafkaOptions, client_options
from streamproc.errors import BrokerError


async def create_like(options: KafkaOptions, likenesses: Mapping[str, str]) -> list[str]:
    """Makes each missing topic with as many partitions as another one; returns the names of those it made.

    `likenesses` is missing topic -> existing topic. Raises BrokerError when the broker refuses or does not answer.
    """
    admin = AIOKafkaAdminClient(**client_options(options))
    try:
        await admin.start()
        described = await admin.describe_topics(list(likenesses.values()))
        partitions = {topic["topic"]: len(topic["partitions"]) for topic in described}
        missing = set(likenesses) - set(await admin.list_topics())
        made = [
            NewTopic(topic, partitions[likenesses[topic]], -1)
            for topic in sorted(missing)
            if partitions.get(likenesses[topic])
        ]
        if made:
            _check((await admin.create_topics(made)).topic_errors)
        return [topic.name for topic in made]
    except errors.KafkaError as error:
        raise BrokerError(f"{', '.join(likenesses)}: {type(error).__name__}; create the dead-letter topic") from None
    finally:
        await admin.close()


def _check(results: list[tuple[str, int, str | None]]) -> None:
    for topic, code, *_ in results:
        kind = errors.for_code(code)
        if kind not in (errors.NoError, errors.TopicAlreadyExistsError):
            raise BrokerError(f"topic {topic} does not exist and cannot be created ({kind.__name__}); create it first")
