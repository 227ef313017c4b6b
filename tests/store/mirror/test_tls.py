"""PostgreSQL by TLS, its certificate of the cloud's authority: believed, not believed, and through a rotation."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.fixtures.etcd import EtcdServer
from tests.fixtures.ports import free_port
from tests.fixtures.postgres import PostgresServer
from tests.store.mirror.test_mirror import WEB, key, reached, running, stored
from vcstack.pki.authority import CertificateAuthority
from vcstack.specs.errors import Unavailable
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.mirror.database import open_engine
from vcstack.store.mirror.history import HistoryReader
from vcstack.store.mirror.mirror import Mirror

pytestmark = pytest.mark.daemons


class Database:
    """A server with TLS only, and whom its clients believe."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self._server = server
        self.port = free_port()
        self.bundle = folder / "ca.crt"
        self.authority = CertificateAuthority.create("first")
        self.certify(self.authority)
        self.trust(self.authority)
        hba = server.give("hba.conf", b"hostssl all all 127.0.0.1/32 trust\n")
        files = (f"ssl_cert_file={server.folder}/tls.crt", f"ssl_key_file={server.folder}/tls.key", f"hba_file={hba}")
        server.start("ssl=on", *files, "listen_addresses=127.0.0.1", f"port={self.port}")

    def certify(self, authority: CertificateAuthority) -> None:
        """Give the server a certificate of that authority."""
        issued = authority.issue_server("postgres", ["127.0.0.1"], hours=1)
        self._server.give("tls.key", issued.key)
        self._server.give("tls.crt", issued.cert)

    def renew(self, authority: CertificateAuthority) -> None:
        """Do so while it runs, until it has read the files again."""
        before = self.loaded_at()
        self.certify(authority)
        self._server.reload()
        ends = time.monotonic() + 60
        while self.loaded_at() == before:
            assert time.monotonic() < ends, "the files were not read again"
            time.sleep(0.05)

    def loaded_at(self) -> Any:
        """Return when the server has read its files last."""
        with psycopg.connect(self.dsn(), dbname="postgres") as connection:
            return connection.execute("SELECT pg_conf_load_time()").fetchone()

    def trust(self, *authorities: CertificateAuthority) -> None:
        """Have clients believe these."""
        self.bundle.write_bytes(b"".join(a.bundle for a in authorities))

    def dsn(self, host: str = "127.0.0.1", bundle: Path | None = None) -> str:
        tls = f"sslmode=verify-full&sslrootcert={bundle or self.bundle}"
        return f"postgresql://vcstack@{host}:{self.port}/mirrored?{tls}"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    server = PostgresServer()
    try:
        yield Database(server, tmp_path)
    finally:
        server.remove()


async def encrypted(engine: AsyncEngine) -> bool:
    async with engine.connect() as connection:
        asked = await connection.execute(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
        return bool(asked.scalar_one())


async def test_the_mirror_and_history_go_on_through_a_rotation_of_the_authority(
    database: Database, etcd_server: EtcdServer
) -> None:
    """As people do it: both are trusted, the server gets its new certificate, the former authority is forgotten."""
    second = CertificateAuthority.create("second")
    engine = open_engine(database.dsn())
    try:
        async with EtcdClient(etcd_server.settings) as etcd, running(Mirror(etcd, engine, database.dsn())) as mirror:
            for generation, (trusted, serves) in enumerate(
                (
                    ((database.authority,), database.authority),
                    ((database.authority, second), database.authority),
                    ((database.authority, second), second),
                    ((second,), second),
                ),
                start=1,
            ):
                database.trust(*trusted)
                database.renew(serves)
                await engine.dispose()  # as if all connections had ended
                revision = (await etcd.put(key(), stored(generation=generation))).revision
                await reached(mirror, revision)
                assert len(await HistoryReader(engine).list_revisions(WEB)) == generation
                assert await encrypted(engine)
    finally:
        await engine.dispose()


async def test_a_server_of_another_authority_or_name_is_not_believed(database: Database, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.crt"
    foreign.write_bytes(CertificateAuthority.create("foreign").bundle)
    for dsn in (database.dsn(bundle=foreign), database.dsn(host="localhost")):
        engine = open_engine(dsn)
        try:
            with pytest.raises(Unavailable):
                async with asyncio.timeout(60):
                    await HistoryReader(engine).list_revisions(WEB)
        finally:
            await engine.dispose()
