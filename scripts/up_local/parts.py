"""What runs: each process by name, how it is started, where it answers, what a person may look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"


class CannotStart(Exception):
    """Something is missing or in the way; the text says what was found, what was expected and what to do."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process. `health` is an URL that answers 200, or `tcp:PORT`; without it a process is well while it runs."""

    name: str
    what: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    health: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)  # what the port is for -> port
    links: Mapping[str, str] = field(default_factory=dict)  # text -> URL
    stop_s: float = 20.0  # after SIGTERM, before SIGKILL


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens; `shift` moves all of it."""

    shift: int = 0

    def at(self, port: int) -> int:
        return port + self.shift

    @property
    def status(self) -> int:
        return self.at(8800)

    @property
    def broker(self) -> int:
        return self.at(9092)

    @property
    def controller(self) -> int:
        return self.at(9093)

    @property
    def smtp(self) -> int:
        return self.at(1025)

    @property
    def mails(self) -> int:
        return self.at(8025)

    @property
    def prometheus(self) -> int:
        return self.at(9090)

    @property
    def api(self) -> int:
        return self.at(6070)

    @property
    def api_pages(self) -> int:
        return self.at(6071)

    def worker(self, number: int) -> int:
        return self.at(6066 + 10 * (number - 1))


@dataclass(frozen=True, slots=True)
class Place:
    """The checkout, and the folder in it that holds everything that is written."""

    root: Path
    data: Path

    def log_of(self, name: str) -> Path:
        return self.data / "logs" / f"{name}.log"

    def folder(self, name: str) -> Path:
        path = self.data / name
        path.mkdir(parents=True, exist_ok=True)
        return path
