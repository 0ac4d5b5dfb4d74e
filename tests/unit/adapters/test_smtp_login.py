"""SMTP with TLS and a login: what is checked before anything is said, and that no password is ever shown."""

import logging
import ssl
import sys
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from streamproc.adapters.mail import MailOptions
from streamproc.adapters.mailers import open_mailer
from streamproc.adapters.smtp import SmtpError, SmtpMailer
from streamproc.errors import ConfigError
from tests.contract.mail_server import CUT, MailServer, mail

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

PASSWORD = "canary-pässword"
NOW = datetime.now(UTC)


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ca.pem"
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        certificate = self._sign(self._name, self._key, ends=NOW + timedelta(days=1), is_authority=True)
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server_context(self, *hosts: x509.GeneralName, ends: datetime = NOW + timedelta(days=1)) -> ssl.SSLContext:
        """What a server of these hosts needs."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(x509.Name([]), key, ends=ends, hosts=hosts)
        file = self._folder / f"server-{certificate.serial_number}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _sign(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        ends: datetime,
        hosts: tuple[x509.GeneralName, ...] = (),
        is_authority: bool = False,
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(NOW - timedelta(days=2)).not_valid_after(ends)
        builder = builder.add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=not name.rdns)
        return builder.sign(self._key, hashes.SHA256())


HERE = x509.IPAddress(ip_address("127.0.0.1"))
ELSEWHERE = x509.DNSName("other.example")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Accounts:
    """aiosmtpd's authenticator: one user, whose password can be changed."""

    def __init__(self) -> None:
        self.password = PASSWORD
        self.tried: list[str] = []

    def __call__(self, server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        self.tried.append(mechanism)
        good = (data.login, data.password) == (b"shop", self.password.encode())
        return AuthResult(success=good, handled=False)


@pytest.fixture
def accounts() -> Accounts:
    return Accounts()


@pytest.fixture
async def server(accounts: Accounts) -> AsyncIterator[MailServer]:
    """A server without TLS that wants a login."""
    started = await MailServer(authenticator=accounts, auth_required=True, auth_require_tls=False).start()
    yield started
    await started.stop()


async def failure(options: MailOptions) -> str:
    async with open_mailer(options) as mailer:
        with pytest.raises(SmtpError) as caught:
            await mailer.send(mail())
    return "".join(traceback.format_exception(caught.value)).split("SmtpError: ", 1)[1]


async def started(tls: str, context: ssl.SSLContext, **options: Any) -> MailServer:
    where: dict[str, Any] = {"tls_context": context} if tls == "starttls" else {"ssl": context}
    return await MailServer(**where, **options).start()


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_mail_goes_over_tls_to_a_server_that_is_who_it_says(tls: str, authority: Authority) -> None:
    server = await started(tls, authority.server_context(HERE), require_starttls=tls == "starttls")
    async with open_mailer(server.mail_options(tls=tls, ca_file=str(authority.file))) as mailer:
        for _ in range(3):
            await mailer.send(mail())
    assert (len(server.mails), server.connections) == (3, 1)
    assert server.commands.count("STARTTLS") == (tls == "starttls")
    await server.stop()


@pytest.mark.parametrize("tls", ["starttls", "tls"])
@pytest.mark.parametrize(
    ("host", "ends", "trusts", "problem"),
    [
        (ELSEWHERE, 1, True, "not valid for '127.0.0.1'"),
        (HERE, -1, True, "certificate has expired"),
        (HERE, 1, False, "unable to get local issuer certificate"),
    ],
)
async def test_no_mail_goes_to_a_server_that_may_be_another(
    tls: str, host: x509.GeneralName, ends: int, trusts: bool, problem: str, authority: Authority
) -> None:
    server = await started(tls, authority.server_context(host, ends=NOW + timedelta(days=ends)))
    options = server.mail_options(tls=tls, ca_file=str(authority.file) if trusts else "")
    shown = await failure(options)
    assert shown.startswith(f"mail server 127.0.0.1:{server.port}: [SSL: CERTIFICATE_VERIFY_FAILED]")
    assert problem in shown
    assert "MAIL" not in server.commands
    await server.stop()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "SMTP STARTTLS extension not supported by server."),
        ("454 TLS not available", "454 TLS not available"),
        ("554 no", "554 no"),
        (CUT, ""),
    ],
)
async def test_without_starttls_nothing_is_sent(answer: str | None, problem: str, authority: Authority) -> None:
    context = authority.server_context(HERE)
    server = await (MailServer().start() if answer is None else started("starttls", context))
    server.faults["STARTTLS"] = [answer] if answer else []
    options = server.mail_options(tls="starttls", ca_file=str(authority.file), username="shop", password=PASSWORD)
    assert problem in await failure(options)
    assert not {"MAIL", "AUTH"} & set(server.commands)
    await server.stop()


async def test_a_login_is_made_once_per_connection(server: MailServer, accounts: Accounts) -> None:
    async with open_mailer(server.mail_options(username="shop", password=PASSWORD)) as mailer:
        for _ in range(3):
            await mailer.send(mail())
    assert (len(server.mails), len(accounts.tried)) == (3, 1)


async def test_without_a_login_where_one_is_needed_the_message_is_not_to_blame(server: MailServer) -> None:
    assert "530 5.7.0 Authentication required" in await failure(server.mail_options())


async def test_a_login_that_is_refused_can_be_repeated(
    server: MailServer, accounts: Accounts, caplog: pytest.LogCaptureFixture
) -> None:
    accounts.password = "another"
    with caplog.at_level(logging.DEBUG):
        shown = await failure(server.mail_options(username="shop", password=PASSWORD))
    assert shown == f"mail server 127.0.0.1:{server.port}: the credentials are refused (535)\n"
    assert "canary" not in shown + "".join(line for line in caplog.messages if "AUTH" not in line)
    assert server.mails == []


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("454 4.7.0 later: {}", "the login failed (454)"),
        ("500 not known: {}", "the credentials are refused (500)"),
        ("nonsense {}", "the login failed (-1)"),
        ("421 bye {}", ""),
        (CUT, ""),
    ],
)
@pytest.mark.parametrize("encoded", [True, False])
async def test_no_answer_brings_the_password_into_an_error(
    server: MailServer, answer: str, problem: str, encoded: bool
) -> None:
    ascii_password = "canary-password"
    said = b64encode(b"\0shop\0" + ascii_password.encode()).decode() if encoded else ascii_password
    server.faults["AUTH"] = [answer.format(said)] * 5
    shown = await failure(server.mail_options(username="shop", password=ascii_password))
    assert problem in shown
    assert said not in shown


async def test_a_password_file_is_read_at_each_connect(server: MailServer, accounts: Accounts, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    async with open_mailer(server.mail_options(username="shop", password_file=str(file))) as mailer:
        await mailer.send(mail())
        accounts.password = "rotated"
        await mailer.send(mail())
        server.hang_up()
        with pytest.raises(SmtpError, match=r"the credentials are refused \(535\)$"):
            await mailer.send(mail())
        file.write_text("rotated")
        await mailer.send(mail())
        server.hang_up()
        file.unlink()
        with pytest.raises(SmtpError, match=r"mail\.password_file: cannot read .*: No such file or directory$"):
            await mailer.send(mail())
    assert len(server.mails) == 3


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"username": "shop", "password_file": "/no/password"}, r"^mail\.password_file: cannot read '/no/password'"),
        ({"tls": "tls", "ca_file": "/no/ca.pem"}, r"^mail\.ca_file: cannot read '/no/ca\.pem': No such file"),
        ({"tls": "tls", "ca_file": __file__}, r"^mail\.ca_file: cannot read .*NO_CERTIFICATE_OR_CRL_FOUND"),
    ],
)
def test_what_cannot_be_read_is_a_configuration_error(options: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        SmtpMailer(MailOptions(transport="smtp", **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"username": "shop"}, "a login needs a username and a password"),
        ({"password": PASSWORD}, "a login needs a username and a password"),
        ({"username": "shop", "password": PASSWORD, "password_file": "f"}, "exclude each other"),
        ({"username": "shop", "password": PASSWORD, "host": "mail.example"}, "needs tls = starttls or tls"),
    ],
)
def test_half_a_login_is_refused(options: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        MailOptions(**options)  # type: ignore[arg-type]
    assert PASSWORD not in str(caught.value)


async def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "streamproc.adapters.smtp")
    monkeypatch.setitem(sys.modules, "aiosmtplib", None)
    with pytest.raises(ConfigError, match=r"^mail\.transport: smtp needs the extra: pip install 'streamproc\[smtp\]'$"):
        async with open_mailer(MailOptions(transport="smtp")):
            pass
