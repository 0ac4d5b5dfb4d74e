"""Mail in a folder: whole files, one per Message-ID, in no other place."""

import asyncio
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

import pytest

from streamproc.adapters.maildir import Maildir
from streamproc.errors import ConfigError


def mail(message_id: str | None, text: str = "hello") -> EmailMessage:
    message = EmailMessage(policy=policy.compat32)
    message["To"] = "u-1@example.com"
    if message_id is not None:
        message["Message-ID"] = message_id
    message.set_payload(text)
    return message


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


async def test_a_message_becomes_a_file(tmp_path: Path) -> None:
    await Maildir(tmp_path).send(mail("<1@example.com>"))
    (name,) = files(tmp_path)
    assert name.startswith("new/")
    assert name.endswith(".eml")
    read = BytesParser(policy=policy.default).parsebytes((tmp_path / name).read_bytes())
    assert (read["To"], read["Message-ID"], read.get_payload()) == ("u-1@example.com", "<1@example.com>", "hello")


async def test_a_repeat_replaces_its_file(tmp_path: Path) -> None:
    maildir = Maildir(tmp_path)
    for text in ("first", "second"):
        await maildir.send(mail("<1@example.com>", text))
    (name,) = files(tmp_path)
    assert b"second" in (tmp_path / name).read_bytes()


async def test_many_at_once_are_all_there(tmp_path: Path) -> None:
    maildir = Maildir(tmp_path)
    await asyncio.gather(*(maildir.send(mail(f"<{n % 50}@example.com>")) for n in range(200)))
    assert len(files(tmp_path)) == 50
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("message_id", ["../../evil", "/etc/passwd", "a/b", "", "..", "x" * 5_000, "ö\0", "\udcff"])
async def test_no_id_leads_out_of_the_folder(message_id: str, tmp_path: Path) -> None:
    await Maildir(tmp_path / "mail").send(mail(message_id))
    (name,) = files(tmp_path)
    assert name.startswith("mail/new/")
    assert len(Path(name).name) == len("0" * 40 + ".eml")


async def test_without_an_id_the_content_names_the_file(tmp_path: Path) -> None:
    maildir = Maildir(tmp_path)
    for text in ("one", "two", "one"):
        await maildir.send(mail(None, text))
    assert len(files(tmp_path)) == 2


async def test_a_refused_file_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    maildir = Maildir(tmp_path)
    await maildir.send(mail("<1@example.com>"))
    (name,) = files(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(OSError, match="directory"):
        await maildir.send(mail("<1@example.com>"))
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^mail\.directory: .*/file/mail cannot be used: Not a directory$"):
        Maildir(tmp_path / "file" / "mail")


async def test_closing_finishes_what_is_being_written(tmp_path: Path) -> None:
    maildir = Maildir(tmp_path)
    sending = [asyncio.ensure_future(maildir.send(mail(f"<{n}@example.com>"))) for n in range(20)]
    await asyncio.sleep(0)
    await maildir.close()
    await asyncio.gather(*sending)
    assert len(files(tmp_path)) == 20
    with pytest.raises(RuntimeError):
        await maildir.send(mail("<20@example.com>"))
