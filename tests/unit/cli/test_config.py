"""`config`: values, where they came from, and no secrets."""

import json
from pathlib import Path

from tests.unit.cli.conftest import Streamproc

PASSWORD = "c4nary"


def test_each_value_is_shown_with_its_origin(streamproc: Streamproc, folder: Path) -> None:
    (folder / "streamproc.toml").write_text('[kafka]\nbootstrap_servers = ["a:1", "b:2"]\n')
    result = streamproc("config", "--set", "stream.strict_json=true", env={"STREAMPROC_LOG__LEVEL": "debug"})
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["SETTING", "VALUE", "ORIGIN"]
    assert ["kafka.bootstrap_servers", "a:1,b:2", "streamproc.toml"] in rows
    assert ["stream.strict_json", "true", "--set", "stream.strict_json"] in rows
    assert ["log.level", "debug", "STREAMPROC_LOG__LEVEL"] in rows
    assert ["stream.workers", "1", "default"] in rows


def test_as_json_with_secrets_masked(streamproc: Streamproc) -> None:
    env = {"STREAMPROC_KAFKA__SASL_PASSWORD": PASSWORD}
    result = streamproc("config", "--json", env=env)
    assert json.loads(result.stdout)["kafka.sasl_password"] == {
        "value": "***",
        "origin": "STREAMPROC_KAFKA__SASL_PASSWORD",
    }
    assert PASSWORD not in result.stdout + streamproc("config", env=env).stdout


def test_the_file_may_be_named_by_flag_or_variable(streamproc: Streamproc, folder: Path) -> None:
    (folder / "other.toml").write_text('[kafka]\ngroup_id = "other"\n')
    by_flag = streamproc("config", "--config", "other.toml")
    by_variable = streamproc("config", env={"STREAMPROC_CONFIG": "other.toml"})
    assert by_flag.stdout == by_variable.stdout
    assert ["kafka.group_id", "other", "other.toml"] in [line.split() for line in by_flag.stdout.splitlines()]
    assert "none.toml: No such file" in streamproc("config", "--config", "none.toml").stderr


def test_what_steers_a_terminal_does_not_reach_it(streamproc: Streamproc) -> None:
    result = streamproc("config", "--set", "kafka.client_id=a\x1b[2Jb\nc")
    assert "a [2Jb c" in result.stdout
    assert "\x1b" not in result.stdout
