"""Settings: who wins, where a value came from, and what is said when something is wrong."""

from pathlib import Path

import pytest

from streamproc.errors import ConfigError
from streamproc.settings import Loaded, contradictions, load, secrets

PASSWORD = "c4nary-Pa55word"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(file: Path | None = None, environ: dict[str, str] | None = None, *flags: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file, environ or {}, flags=dict.fromkeys(flags, "1"))
    return str(caught.value).splitlines()


def shown(loaded: Loaded) -> dict[str, tuple[object, str]]:
    return {name: (value, origin) for name, value, origin in loaded.values()}


def test_without_anything_every_value_is_its_default(here: Path) -> None:
    loaded = load(None, {})
    assert loaded.settings.kafka.group_id == "streamproc"
    assert loaded.origins == {}
    assert {origin for _, _, origin in loaded.values()} == {"default"}
    assert shown(loaded)["stream.topics"] == (["events"], "default")


def test_file_then_environment_then_flags(here: Path) -> None:
    (here / "streamproc.toml").write_text(
        '[kafka]\ngroup_id = "file"\nclient_id = "file"\ninstance_id = "file"\n[stream]\nworkers = 2\n'
    )
    environ = {"STREAMPROC_KAFKA__CLIENT_ID": "env", "STREAMPROC_KAFKA__INSTANCE_ID": "env"}
    loaded = load(None, environ, flags={"kafka.instance_id": "flag"})
    kafka = loaded.settings.kafka
    assert (kafka.group_id, kafka.client_id, kafka.instance_id) == ("file", "env", "flag")
    assert loaded.settings.stream.workers == 2
    assert loaded.origins == {
        "kafka.group_id": "streamproc.toml",
        "stream.workers": "streamproc.toml",
        "kafka.client_id": "STREAMPROC_KAFKA__CLIENT_ID",
        "kafka.instance_id": "--set kafka.instance_id",
    }


def test_a_named_file_is_read_instead_of_the_one_here(here: Path) -> None:
    (here / "streamproc.toml").write_text('[kafka]\ngroup_id = "here"\n')
    other = here / "other.toml"
    other.write_text('[kafka]\nclient_id = "other"\n')
    loaded = load(other, {})
    assert (loaded.settings.kafka.group_id, loaded.settings.kafka.client_id) == ("streamproc", "other")
    assert loaded.origins == {"kafka.client_id": str(other)}


def test_text_becomes_the_type_of_the_setting(here: Path) -> None:
    environ = {
        "STREAMPROC_KAFKA__BOOTSTRAP_SERVERS": "one:9092, two:9092,",
        "STREAMPROC_STREAM__WORKERS": "3",
        "STREAMPROC_STREAM__STRICT_JSON": "true",
        "STREAMPROC_STREAM__DRAIN_S": "2.5",
        "STREAMPROC_STREAM__STARTING_POSITION": "at_timestamp",
        "STREAMPROC_STREAM__STARTING_TIMESTAMP": "2026-01-31T12:00:00Z",
    }
    settings = load(None, environ).settings
    assert settings.kafka.bootstrap_servers == ["one:9092", "two:9092"]
    assert (settings.stream.workers, settings.stream.strict_json, settings.stream.drain_s) == (3, True, 2.5)
    assert settings.stream.starting_timestamp is not None
    assert settings.stream.starting_timestamp.isoformat() == "2026-01-31T12:00:00+00:00"


def test_a_file_has_types_of_its_own(here: Path) -> None:
    (here / "streamproc.toml").write_text('[stream]\nworkers = "3"\ntopics = "events"\n')
    assert problems() == [
        "stream.workers: expected a whole number >= 1 and <= 256; it was set by streamproc.toml",
        "stream.topics: expected a list, not empty; it was set by streamproc.toml",
    ]


def test_options_of_functions_and_formats_of_topics_come_from_everywhere(here: Path) -> None:
    (here / "streamproc.toml").write_text(
        '[functions.store_readings]\nbatch_size = 5\nkey = "sensor_id"\n[stream.formats]\norders = "json"\n'
    )
    environ = {"STREAMPROC_FUNCTIONS__STORE_READINGS__BATCH_SIZE": "1000"}
    loaded = load(None, environ, flags={"functions.mail.timeout_s": "3", "stream.formats.my.topic": "base64"})
    assert loaded.settings.functions == {
        "store_readings": {"batch_size": 1000, "key": "sensor_id"},
        "mail": {"timeout_s": 3.0},
    }
    assert loaded.settings.stream.formats == {"orders": "json", "my.topic": "base64"}
    assert shown(loaded)["stream.formats.orders"] == ("json", "streamproc.toml")
    assert shown(loaded)["functions.store_readings.batch_size"] == (
        1000,
        "STREAMPROC_FUNCTIONS__STORE_READINGS__BATCH_SIZE",
    )


@pytest.mark.parametrize(("held", "read"), [(b"a", "a"), (b"a\n", "a"), (b"a\r\n", "a"), (b" a\n\n", " a\n")])
def test_a_secret_is_read_from_a_file_without_its_last_newline(here: Path, held: bytes, read: str) -> None:
    (here / "password").write_bytes(held)
    loaded = load(None, {"STREAMPROC_KAFKA__SASL_PASSWORD_FILE": str(here / "password")})
    assert loaded.settings.kafka.sasl_password == read
    assert loaded.origins == {"kafka.sasl_password": "STREAMPROC_KAFKA__SASL_PASSWORD_FILE"}


def test_a_secret_is_known_and_never_shown(here: Path) -> None:
    loaded = load(None, {"STREAMPROC_KAFKA__SASL_PASSWORD": PASSWORD})
    assert secrets(loaded.settings) == {PASSWORD}
    assert shown(loaded)["kafka.sasl_password"] == ("***", "STREAMPROC_KAFKA__SASL_PASSWORD")
    assert PASSWORD not in repr(loaded.values())
    assert secrets(load(None, {}).settings) == frozenset()


def test_what_secret_files_hold_is_a_secret_too(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("hunter2\n")
    flags = {"mail.username": "me", "mail.password_file": str(tmp_path / "mail"), "auth.secret_file": "/none"}
    assert secrets(load(None, {}, flags=flags).settings) == {"hunter2"}


def test_a_setting_whose_own_name_ends_in_file_is_not_read(here: Path) -> None:
    loaded = load(None, {"STREAMPROC_KAFKA__SSL_CA_FILE": "ca.pem"})
    assert loaded.settings.kafka.ssl_ca_file == "ca.pem"


def test_unknown_names_are_told_as_they_were_written_with_what_was_meant(here: Path) -> None:
    (here / "streamproc.toml").write_text('[kafka]\ngruop_id = "x"\n[kafak]\n')
    environ = {"STREAMPROC_KAFKA_GROUP_ID": "x", "STREAMPROC_STREAM__WORKER": "2"}
    assert problems(None, environ, "functions.mail.batch_sze", "kafka", "zzz") == [
        "streamproc.toml: kafka.gruop_id: no such setting; did you mean kafka.group_id?",
        "streamproc.toml: kafak: no such setting",
        "STREAMPROC_KAFKA_GROUP_ID: no such setting; did you mean STREAMPROC_KAFKA__GROUP_ID?",
        "STREAMPROC_STREAM__WORKER: no such setting; did you mean STREAMPROC_STREAM__WORKERS?",
        "--set functions.mail.batch_sze: no such setting; did you mean functions.mail.batch_size?",
        "--set kafka: no such setting; it is a section, [kafka]",
        "--set zzz: no such setting",
    ]


@pytest.mark.parametrize(
    "variable",
    [
        "STREAMPROC_SERVICE_HOST",
        "STREAMPROC_SERVICE_PORT_METRICS",
        "STREAMPROC_PORT",
        "STREAMPROC_KAFKA_PORT_9092_TCP_ADDR",
        "STREAMPROC_CONFIG",
        "STREAMPROC_TEST_KAFKA",
        "OTHER_KAFKA__GROUP_ID",
    ],
)
def test_variables_that_others_set_are_left_alone(here: Path, variable: str) -> None:
    assert load(None, {variable: "tcp://10.0.0.1:9092"}).origins == {}


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("stream.workers", "0", "a whole number >= 1 and <= 256"),
        ("stream.workers", "many", "a whole number >= 1 and <= 256"),
        ("stream.commit_interval_s", "0", "a number > 0 and <= 60"),
        ("stream.format", "xml", "one of auto, base64, cloudevents, json, kinesis, s3"),
        ("stream.strict_json", "maybe", "true or false"),
        ("stream.starting_timestamp", "noon", "a time such as 2026-01-31T12:00:00Z"),
        ("stream.formats", "json", "a table"),
        ("stream.topics", ",", "a list, not empty"),
        ("kafka.group_id", "", "text, not empty"),
        ("functions.mail.batch_size", "many", "a whole number"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_expected(here: Path, setting: str, value: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {}, flags={setting: value})
    assert str(caught.value) == f"{setting}: expected {expected}; it was set by --set {setting}"


def test_only_the_value_that_counts_is_checked(here: Path) -> None:
    (here / "streamproc.toml").write_text("[stream]\nworkers = 0\n")
    assert load(None, {"STREAMPROC_STREAM__WORKERS": "2"}).settings.stream.workers == 2


def test_an_error_does_not_repeat_the_value_of_a_secret(here: Path) -> None:
    (here / "streamproc.toml").write_text(f'[kafka]\nsasl_password = ["{PASSWORD}"]\n')
    environ = {"STREAMPROC_KAFKA__SASL_MECHANISM": PASSWORD}
    found = problems(None, environ)
    assert len(found) == 2
    assert PASSWORD not in "".join(found)


def test_a_file_that_cannot_be_read_is_told(here: Path) -> None:
    (here / "broken.toml").write_text("[kafka\n")
    (here / "latin.toml").write_bytes(b'[kafka]\ngroup_id = "\xe9"\n')
    assert problems(here / "none.toml") == [f"{here / 'none.toml'}: No such file or directory"]
    assert "line 1" in problems(here / "broken.toml")[0]
    assert "utf-8" in problems(here / "latin.toml")[0]
    assert "directory" in problems(here)[0]


def test_a_secret_file_that_is_missing_or_has_a_rival_is_told(here: Path) -> None:
    name = "STREAMPROC_KAFKA__SASL_PASSWORD"
    assert problems(None, {f"{name}_FILE": "nowhere"}) == [
        f"{name}_FILE: cannot read 'nowhere': No such file or directory"
    ]
    assert problems(None, {name: PASSWORD, f"{name}_FILE": "nowhere"}) == [
        f"{name}_FILE: {name} is set too; only one of them may be"
    ]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            {"stream.topics": "a,a.dlq"},
            "stream.topics = a, a.dlq and stream.dead_letter_topic = {topic}.dlq: the dead letters of a would go to"
            " a.dlq, which is an input topic; read the one without the other, or name another dead_letter_topic"
            " (stream.topics was set by --set stream.topics)",
        ),
        (
            {"stream.topics": "a,dead", "stream.dead_letter_topic": "dead"},
            "stream.topics = a, dead and stream.dead_letter_topic = dead: the dead letters of a would go to dead,"
            " which is an input topic; read the one without the other, or name another dead_letter_topic"
            " (stream.topics was set by --set stream.topics, stream.dead_letter_topic by --set"
            " stream.dead_letter_topic)",
        ),
        (
            {"stream.topics": "dead", "stream.dead_letter_topic": "dead"},
            "stream.topics = dead and stream.dead_letter_topic = dead: the dead letters of dead would go to dead,",
        ),
        (
            {"stream.drain_s": 47},
            "stream.drain_s = 47.0 and stream.commit_timeout_s = 5.0 and kafka.rebalance_timeout_s = 60.0: the group"
            " gives partitions to others before the calls in flight have ended and are committed; keep drain_s + 2 *"
            " commit_timeout_s + a heartbeat, 60 s, below the last (stream.drain_s was set by --set stream.drain_s)",
        ),
        ({"stream.commit_timeout_s": 50}, "stream.drain_s = 10.0 and stream.commit_timeout_s = 50.0 and kafka"),
        ({"kafka.rebalance_timeout_s": 15}, "(kafka.rebalance_timeout_s was set by --set kafka.rebalance_timeout_s)"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_together(
    here: Path, flags: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {}, flags={**flags, "kafka.x": "1"})
    first, second = str(caught.value).splitlines()
    assert first == "--set kafka.x: no such setting"
    assert sentence in second


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"stream.drain_s": 46.9},
        {"stream.topics": "a.dlq"},
        {"stream.topics": "a,b", "stream.dead_letter_topic": "dead"},
        {"stream.topics": "a,a.dlq", "stream.dead_letter_topic": "{topic}.dead"},
    ],
)
def test_settings_that_do_not_contradict_each_other_are_taken(here: Path, flags: dict[str, object]) -> None:
    assert contradictions(load(None, {}, flags=flags).settings) == []


@pytest.mark.parametrize("server", ["localhost:http", "127.0.0.1:", "[::1]:x", "kafka", "kafka:0", "kafka:99999", ""])
def test_what_is_no_address_is_a_wrong_setting(server: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(None, {}, flags={"kafka.bootstrap_servers": [server]})
    assert f"bootstrap_servers: {server!r} is not host:port, as in localhost:9092" in str(error.value)


@pytest.mark.parametrize("server", ["localhost:9092", "10.0.0.1:9092", "[::1]:9092", "kafka-1.example.org:65535"])
def test_what_is_an_address(server: str) -> None:
    assert load(None, {}, flags={"kafka.bootstrap_servers": [server]}).settings.kafka.bootstrap_servers == [server]


def test_a_login_in_an_address_is_not_printed() -> None:
    with pytest.raises(ConfigError) as error:
        load(None, {}, flags={"kafka.bootstrap_servers": ["me:canary@kafka:9092"]})
    assert "give it as sasl_username and sasl_password" in str(error.value)
    assert "canary" not in str(error.value)


@pytest.mark.parametrize("topic", ["my topic", '["a"', "a/b", "x" * 250])
def test_what_is_no_topic_name_is_told_as_such(topic: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {}, flags={"stream.topics": [topic]})
    assert f"topics: {topic!r} is no topic name" in str(caught.value)


@pytest.mark.parametrize(
    "pattern", ["{topics}.dlq", "{topic", "{}", "{topic!r}", "dead letters", "{topic}" + "x" * 250]
)
def test_a_pattern_for_dead_letters_that_makes_no_topic_name_is_refused(here: Path, pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"^\[stream\]: dead_letter_topic = .* makes no topic name: "):
        load(None, {}, flags={"stream.dead_letter_topic": pattern})


@pytest.mark.parametrize(
    ("setting", "address"),
    [
        ("store.url", "postgresql://me:canary@127.0.0.1:1/postgres"),
        ("store.url", "postgresql://127.0.0.1:1/postgres?user=me&password=canary"),
        ("store.url", "postgresql://127.0.0.1:1/postgres?p%61ssword=canary"),
        ("store.url", "postgresql://127.0.0.1:1/postgres?sslpassword=canary"),
        ("store.url", "postgresql://me:canary@[127.0.0.1/postgres"),
        ("store.url", "postgresql://me:canary@\u2100/postgres"),
        ("store.url", "postgresql://me:canary@127.0.0.1:1,127.0.0.2:1/postgres"),
        ("auth.jwks_url", "https://shop:canary@host/keys"),
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(setting: str, address: str) -> None:
    with pytest.raises(ConfigError, match=r"url must not hold a password") as caught:
        load(None, {}, flags={setting: address})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            {"stream.starting_position": "latest", "stream.starting_timestamp": "2026-01-01T00:00:00Z"},
            "the time counts with starting_position = at_timestamp only",
        ),
        (
            {"kafka.sasl_username": "shop"},
            "kafka.security_protocol = PLAINTEXT and kafka.sasl_username = shop: nobody would log in",
        ),
    ],
)
def test_a_setting_that_would_be_ignored_is_told(here: Path, flags: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {}, flags=flags)
    assert sentence in str(caught.value)
