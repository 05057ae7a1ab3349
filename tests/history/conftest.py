"""Histories to test on: a SQLite file, and a database of a real PostgreSQL (skipped where there is none, failed in CI)."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rater.doors.history.opening import open_history
from rater.doors.history.store import Store
from tests.history import postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    why = postgres.missing()
    if why is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true and {why}")
        pytest.skip(why)
    with postgres.server() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new history goes, as an operator names it."""
    if request.param == "sqlite":
        return str(tmp_path / "history.db")
    found: str = request.getfixturevalue("postgres_server").new_database()
    return found


Open = Callable[[], Store]


@pytest.fixture
def open_store(target: str) -> Iterator[Open]:
    """Another connection to the same history each time."""
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(open_history(target, make=True))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """Where nothing depends on the database."""
    found = open_history(str(tmp_path / "history.db"), make=True)
    yield found
    found.close()
