"""A real PostgreSQL for the tests that ask for one: a server of its own in a temporary folder, on a free port."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.kafka.broker import free_ports

STARTS_WITHIN_S = 120.0
DEBIAN = Path("/usr/lib/postgresql")
ACCOUNT = "postgres"  # the server refuses to run as root; Debian's package makes this account


def programs() -> Path | None:
    """The folder of initdb and postgres: in the path, or where Debian keeps it."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    versions = sorted(
        DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0
    )
    return versions[-1].parent if versions else None


def missing() -> str | None:
    """What stands in the way of a server here."""
    if programs() is None:
        return "there is no PostgreSQL here; install Debian's package postgresql"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "there is no psycopg here; pip install 'psycopg[binary]'"
    return None


class Server:
    """`url(name)` is where a database is; each test takes one of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._count = 0

    def url(self, database: str) -> str:
        return f"postgresql://rater@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        import psycopg

        self._count += 1
        name = f"history_{self._count}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as db:
            db.execute(f"create database {name}".encode())
        return self.url(name)


@contextmanager
def server() -> Iterator[Server]:
    found = programs()
    assert found is not None
    folder = Path(tempfile.mkdtemp(prefix="rater-postgres-"))
    account = ACCOUNT if os.geteuid() == 0 else None
    if account is not None:
        shutil.chown(folder, account)
    port = free_ports(1)[0]
    process = None
    try:
        data = folder / "data"
        subprocess.run(
            [found / "initdb", "-D", data, "-U", "rater", "--auth=trust", "-E", "UTF8", "--no-locale", "--no-sync"],
            check=True, capture_output=True, user=account, cwd=folder,
        )  # fmt: skip
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [found / "postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
                 "-c", "unix_socket_directories="],
                stdout=log, stderr=subprocess.STDOUT, user=account, cwd=folder,
            )  # fmt: skip
        wait_for(port, process, folder / "log")
        yield Server(port)
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # "fast": SIGTERM would wait for every client that is still connected
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(psycopg.OperationalError), psycopg.connect(Server(port).url("postgres"), connect_timeout=5):
            return
        time.sleep(0.1)
    raise AssertionError(f"PostgreSQL did not start:\n{log.read_text('utf-8', 'replace')[-3000:]}")
