"""With exactly the rights that deploy/ gives on Kafka the application does all its work, and says what it misses."""

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

from handlers.seed import seed
from handlers.services import open_services
from streamproc.adapters.broker import start_broker
from streamproc.adapters.broker_files import free_port
from streamproc.http.auth import sign
from streamproc.http.options import AuthOptions
from streamproc.settings import load
from tests.integration.api import SCOPES
from tests.integration.harness import PATIENCE_S, ROOT, Service, until, until_true
from tests.integration.positions import member, number, options, writing

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]
ACLS = ROOT / "deploy" / "kafka-acls.sh"
PASSWORDS = {"admin": "admin-1", "shop": "shop-2", "shop-api": "api-3"}
RESOURCES, OPERATIONS = {"--topic": 2, "--group": 3}, {"Read": 3, "Write": 4, "Describe": 8}
LITERAL, ALLOW = 3, 3
USERS = " ".join(f'user_{name}="{password}"' for name, password in PASSWORDS.items())
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a broker that wants a login and allows nobody anything."""
    port, controller = free_port(), free_port()
    properties = {
        "listeners": f"SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"SASL_PLAINTEXT://127.0.0.1:{port}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "inter.broker.listener.name": "SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
            f'{LOGIN} username="admin" password="{PASSWORDS["admin"]}" {USERS};'
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:admin;User:ANONYMOUS",  # who the controller's own listener is
        "allow.everyone.if.no.acl.found": "false",
    }
    with start_broker(data_dir=tmp_path_factory.mktemp("guarded") / "kafka", port=port, properties=properties):
        yield f"127.0.0.1:{port}"


@pytest.fixture
async def admin(guarded: str) -> AsyncIterator[AIOKafkaAdminClient]:
    login = {"sasl_plain_username": "admin", "sasl_plain_password": PASSWORDS["admin"]}
    client = AIOKafkaAdminClient(
        bootstrap_servers=guarded, security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", **login
    )
    await client.start()
    yield client
    await client.close()


def rights(topic: str) -> list[list[str]]:
    """What deploy/kafka-acls.sh asks for, a list of arguments each."""
    environment = {"KAFKA_ACLS": "echo", "TOPIC": topic, "GROUP": topic, "PATH": "/usr/bin:/bin"}
    output = subprocess.run(["sh", str(ACLS)], env=environment, check=True, capture_output=True, text=True).stdout
    return [line.split() for line in output.splitlines()]


async def allow(admin: AIOKafkaAdminClient, right: list[str]) -> None:
    """Does what kafka-acls.sh would do with these arguments."""
    assert right[:3] == ["--add", "--force", "--allow-principal"]
    principal, operation, kind, name = right[3], right[5], right[6], right[7]
    request = CreateAclsRequest(RESOURCES[kind], name, LITERAL, principal, "*", OPERATIONS[operation], ALLOW)
    response = await admin._send_request(request)
    assert [code for code, _ in response.creation_responses] == [0]


async def forbid(admin: AIOKafkaAdminClient, right: list[str]) -> None:
    """Takes a right back, if somebody gave it."""
    kind, name = RESOURCES[right[6]], right[7]
    request = DeleteAclsRequest(kind, name, LITERAL, right[3], "*", OPERATIONS[right[5]], ALLOW)
    response = await admin._send_request(request)
    assert [code for code, *_ in response.filter_responses] == [0]


async def prepared(admin: AIOKafkaAdminClient, topic: str) -> None:
    await admin.create_topics([NewTopic(name, 2, 1) for name in (topic, f"{topic}.dlq")])


def service(folder: Path, guarded: str, topic: str, user: str, **more: Any) -> Service:
    settings = {
        "kafka.security_protocol": "SASL_PLAINTEXT",
        "kafka.sasl_mechanism": "PLAIN",
        "kafka.sasl_username": user,
        "kafka.sasl_password": PASSWORDS[user],
        "auth.secret_file": str(folder / "secret"),
        "auth.development": "true",
        "http.listen": "127.0.0.1:0",
        **kept(folder),
    }
    return Service(folder, guarded, topic, app="handlers.app:app", group=topic, **settings, **more)


def kept(folder: Path) -> dict[str, str]:
    """Settings for what is kept, all in one folder."""
    return {
        "store.url": f"sqlite:///{folder}/shop.db",
        "mail.directory": str(folder / "mail"),
        "objects.url": f"file:{folder}/objects",
        "app.options.temporary_folder": str(folder / "tmp"),
        "app.options.log_folder": str(folder / "logs"),
    }


async def send(folder: Path, address: str, path: str, body: Any) -> int:
    """The status of a POST of JSON, or a PUT of bytes."""
    auth = AuthOptions(secret_file=str(folder / "secret"), development=True)
    token = sign(auth, subject="u-1", scopes=SCOPES, lifetime_s=600, now=time.time())
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
        url, headers = f"http://{address}{path}", {"authorization": f"Bearer {token}"}
        if isinstance(body, bytes):
            return (await client.put(url, content=body, headers=headers)).status_code
        return (await client.post(url, json=body, headers=headers)).status_code


async def seeded(folder: Path) -> None:
    (folder / "secret").write_text(secrets.token_hex(32))
    async with open_services(load(None, {}, flags=kept(folder)).settings) as services:
        await seed(services, users=1, skus=1, quantity=10)


HOT = {"sensorId": "s-1", "timestamp": "2026-01-01T00:00:00Z", "temperature": 40, "humidity": 1}
GIF = b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
EVENTS, MAILS = 7, 4
"""A user, two orders, a reading, its alert, a picture, a schedule; a welcome, a confirmation, the alert, the report."""


async def use_everything(folder: Path, address: str) -> None:
    """Each kind of event, mails, an alert, a picture and a dead letter."""
    assert await send(folder, address, "/users", {"email": "a@example.com", "name": "A"}) == 201
    for sku in ("sku-0", "sku-none"):
        order = {"userId": "u-0", "items": [{"sku": sku, "quantity": 1}]}
        assert await send(folder, address, "/orders", order) == 201
    assert await send(folder, address, "/readings", HOT) == 202
    assert await send(folder, address, "/files/cat.gif", GIF) == 201


def trigger(folder: Path, topic: str) -> None:
    """Lets the nightly work begin, which counts dead letters."""
    flags = {"stream.topics": topic, **kept(folder)}.items()
    sets = [part for name, value in flags for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "streamproc", "schedule", "trigger", "handlers.app:app", "daily-cleanup", *sets]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def complaints(running: Service) -> list[str]:
    """The lines of its log about what it is not allowed."""
    lines = running.log.read_text().splitlines()
    return [line for line in lines if "AuthorizationFailed" in line or "not_authorized" in line]


async def ends(admin: AIOKafkaAdminClient, topic: str) -> int:
    """How many records of a topic the group has settled."""
    offsets = await admin.list_consumer_group_offsets(topic)
    return sum(meta.offset for partition, meta in offsets.items() if partition.topic == topic and meta.offset > 0)


async def test_the_rights_of_deploy_are_enough(guarded: str, admin: AIOKafkaAdminClient, tmp_path: Path) -> None:
    topic = "enough"
    await prepared(admin, topic)
    await seeded(tmp_path)
    for right in rights(topic):
        await allow(admin, right)
    with service(tmp_path, guarded, topic, "shop") as running:
        await running.ready()
        await use_everything(tmp_path, await running.listening())
        await asyncio.to_thread(trigger, tmp_path, topic)

        async def all_settled() -> bool:
            return await ends(admin, topic) == EVENTS

        await until_true(all_settled, "all events are settled")
        assert len(list((tmp_path / "mail" / "new").iterdir())) == MAILS
        assert await running.stop() == 0
        assert not complaints(running)


async def test_requests_alone_need_to_write_only(guarded: str, admin: AIOKafkaAdminClient, tmp_path: Path) -> None:
    topic = "requests"
    await prepared(admin, topic)
    await seeded(tmp_path)
    for right in rights(topic):
        await allow(admin, right)
    with service(tmp_path, guarded, topic, "shop-api", only="http") as running:
        await use_everything(tmp_path, await running.listening())
        assert await running.stop() == 0
        assert not complaints(running)


@pytest.mark.parametrize("may_describe", [True, False], ids=["read denied", "not even described"])
async def test_a_topic_that_may_not_be_read_stops_alone_and_until_it_may(
    guarded: str, admin: AIOKafkaAdminClient, may_describe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamproc.core.engine.STOPPED_AGAIN_S", 1.0)
    good, other = (f"{name}-{may_describe}".lower() for name in ("good", "other"))
    await admin.create_topics([NewTopic(name, 1, 1) for name in (good, other)])
    reads = [
        ["--add", "--force", "--allow-principal", "User:shop", "--operation", "Read", "--topic", name]
        for name in (good, other)
    ]
    group = ["--add", "--force", "--allow-principal", "User:shop", "--operation", "Read", "--group", good]
    describe = [*reads[1][:5], "Describe", "--topic", other]
    for right in (*reads, group, *([describe] if may_describe else ())):
        await allow(admin, right)
    login = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "shop",
        "sasl_password": PASSWORDS["shop"],
    }
    admin_login = {"sasl_plain_username": "admin", "sasl_plain_password": PASSWORDS["admin"]}
    async with (
        writing(guarded, security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", **admin_login) as producer,
        member(options(guarded, good, **login), [good, other]) as reader,
    ):
        await reader.until(lambda: len(reader.pipeline.snapshot().partitions) == 2, "both are read")
        await forbid(admin, reads[1])
        await producer.send_and_wait(other, number(1))

        def why() -> str:
            blocked = [one.blocked for one in reader.pipeline.snapshot().partitions if one.partition.topic == other]
            return "".join(blocked) or reader.pipeline.trouble()

        await reader.until(lambda: "not_authorized" in why() or "may not see" in why(), "the one is not read")
        await producer.send_and_wait(good, number(2))
        await reader.until(lambda: reader.seen[-1:] == [2], "the other is read on")
        await allow(admin, reads[1])
        await producer.send_and_wait(other, number(3))
        await reader.until(lambda: 3 in reader.seen and not why(), "it is read again")
        assert sorted(reader.seen) == [1, 2, 3]


@pytest.mark.parametrize("missing", range(4))
async def test_each_right_is_needed(guarded: str, admin: AIOKafkaAdminClient, tmp_path: Path, missing: int) -> None:
    topic = f"missing-{missing}"
    await prepared(admin, topic)
    await seeded(tmp_path)
    needed = [right for right in rights(topic) if right[3] == "User:shop"]
    assert len(needed) == 4
    await forbid(admin, needed[missing])
    for index, right in enumerate(needed):
        if index != missing:
            await allow(admin, right)
    with service(tmp_path, guarded, topic, "shop") as running:
        await until(lambda: bool(running.address("answering") or complaints(running)), "it listens, or complains")
        if not complaints(running):
            await asyncio.gather(use_everything(tmp_path, running.address("answering")), return_exceptions=True)
        await until(lambda: bool(complaints(running)), "it says what it misses")
        print(complaints(running))
        assert PASSWORDS["shop"] not in running.log.read_text()


async def test_a_login_that_is_refused_is_not_tried_again(guarded: str, tmp_path: Path) -> None:
    await seeded(tmp_path)
    wrong = "canary-of-a-wrong-password"
    with service(tmp_path, guarded, "any", "shop", only="stream", kafka__sasl_password=wrong) as running:
        assert await running.exit_code() == 2
    told = [entry["message"] for entry in running.logged() if entry.get("logger") == "streamproc"]
    assert told[-1] == f"Kafka at {guarded} refuses user 'shop': SaslAuthenticationFailed"
    assert wrong not in running.log.read_text()


@pytest.mark.parametrize(
    "command",
    [
        ["lag"],
        ["dlq", "ls"],
        ["dlq", "show", "events.dlq", "0", "0"],
        ["publish"],
        ["offsets", "set", "events", "0", "earliest"],
        ["skip", "events", "0", "0", "--reason", "it is broken"],
    ],
    ids=lambda command: command[0],
)
def test_a_command_whose_login_is_refused_says_so(guarded: str, command: list[str]) -> None:
    """And ends with 2: to try again would not help."""
    wrong = "canary-of-a-wrong-password"
    sets = {
        "kafka.bootstrap_servers": guarded,
        "kafka.security_protocol": "SASL_PLAINTEXT",
        "kafka.sasl_mechanism": "PLAIN",
        "kafka.sasl_username": "shop",
        "kafka.sasl_password": wrong,
        "kafka.group_id": "any",
        "stream.topics": "events",
    }
    flags = [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]
    done = subprocess.run(
        [sys.executable, "-m", "streamproc", *command, *flags], input="", capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, f"Kafka at {guarded} refuses user 'shop'" in done.stderr) == (2, True), done.stderr
    assert wrong not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
