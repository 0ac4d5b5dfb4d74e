"""`token`: what it prints is taken, and it prints nothing where it should not."""

import time
from pathlib import Path

import pytest

from streamproc.http.auth import TokenVerifier
from streamproc.http.options import AuthOptions
from tests.unit.cli.conftest import Streamproc

SECRET = "c4nary" * 8
DEVELOPMENT = ["--set", "auth.development=true", "--set", "auth.secret_file=secret.txt"]


@pytest.fixture(autouse=True)
def secret(folder: Path) -> None:
    (folder / "secret.txt").write_text(SECRET + "\n")


async def test_what_it_prints_is_taken(streamproc: Streamproc) -> None:
    scopes = ["--scope", "users:read", "--scope", "users:write"]
    result = streamproc("token", "--subject", "u-1", *scopes, *DEVELOPMENT, "--set", "auth.issuer=shop")
    assert result.exit_code == 0
    caller = await TokenVerifier(AuthOptions(secret_file="secret.txt", issuer="shop"), time.time).verify(
        result.stdout.removesuffix("\n")
    )
    assert (caller.subject, caller.scopes) == ("u-1", {"users:read", "users:write"})
    assert caller.claims["exp"] - caller.claims["nbf"] == 3_600


async def test_the_settings_may_come_from_a_file_and_the_lifetime_from_the_command(
    streamproc: Streamproc, folder: Path
) -> None:
    (folder / "streamproc.toml").write_text('[auth]\ndevelopment = true\nsecret_file = "secret.txt"\n')
    result = streamproc("token", "--subject", "u-1", "--lifetime", "60")
    caller = await TokenVerifier(AuthOptions(secret_file="secret.txt"), time.time).verify(result.stdout.strip())
    assert caller.claims["exp"] - caller.claims["nbf"] == 60
    assert caller.scopes == set()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ([], "auth.development: is false, so no token is signed. On a development machine set it to true, and"),
        (DEVELOPMENT[2:], "auth.development: is false, so no token is signed. On a development machine set it to"),
        (DEVELOPMENT[:2], "[auth]: development = true needs secret_file: only that can sign"),
        (
            [*DEVELOPMENT, "--set", "auth.secret_file=none"],
            "auth.secret_file: there is no 'none'; make it: openssl rand",
        ),
        ([*DEVELOPMENT, "--set", "auth.secret_file=short"], "auth.secret_file: 'short' holds fewer than 32 bytes"),
        ([*DEVELOPMENT, "--scope", "a b"], "scope: must be one word"),
        ([*DEVELOPMENT, "--lifetime", "90000"], "lifetime: must be 1 to 86400, the setting auth.lifetime_max_s"),
        ([*DEVELOPMENT, "--set", "auth.issuer="], "auth.issuer: expected text, not empty"),
    ],
)
def test_it_says_what_to_set(streamproc: Streamproc, folder: Path, settings: list[str], problem: str) -> None:
    (folder / "short").write_text(SECRET[:31])
    result = streamproc("token", "--subject", "u-1", *settings)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {problem}")
    assert "c4nary" not in result.stderr


def test_it_makes_no_secret(streamproc: Streamproc, folder: Path) -> None:
    (folder / "secret.txt").unlink()
    assert streamproc("token", "--subject", "u-1", *DEVELOPMENT).exit_code == 2
    assert not (folder / "secret.txt").exists()
