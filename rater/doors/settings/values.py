"""One setting as text -> what it means; a wrong one is refused with what was found, what was expected, and an example."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rater.doors.settings.secret import Secret

NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")  # what Kafka takes for a topic, and its tools for a group
HOST_PORT = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


class SettingsRefused(Exception):
    """A setting is missing, unknown or wrong; the text names it, what was found, what was expected."""


@dataclass(frozen=True, slots=True)
class Value:
    """One setting as text, and the name to blame: the variable, or the file and its key."""

    text: str
    origin: str

    def wrong(self, expected: str) -> SettingsRefused:
        return SettingsRefused(f"{self.origin} is '{self.text}'; expected {expected}")


Parse = Callable[[Value], Any]


def name(value: Value) -> str:
    if not NAME.fullmatch(value.text):
        raise value.wrong("1 to 200 letters, digits, '.', '_' or '-', for example rating-eu")
    return value.text


def prefix(value: Value) -> str:
    if value.text and not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", value.text):
        raise value.wrong("at most 100 letters, digits, '.', '_' or '-', for example staging.")
    return value.text


def servers(value: Value) -> tuple[str, ...]:
    found = tuple(part.strip() for part in value.text.split(","))
    for server in found:
        match = HOST_PORT.fullmatch(server)
        if match is None or not 1 <= int(match["port"]) <= 65_535:
            raise value.wrong("host:port, several with commas between, for example kafka1:9092,kafka2:9092")
    return found


def existing_file(value: Value) -> Path:
    path = Path(value.text)
    if not path.is_file():
        raise value.wrong("a file that can be read; there is none of that name")
    return path


def existing_folder(value: Value) -> Path:
    path = Path(value.text)
    if not path.is_dir():
        raise value.wrong("a folder that is there, for example rates/example-usd")
    return path


def state_folder(value: Value) -> Path:
    path = Path(value.text)
    if not value.text or (path.exists() and not path.is_dir()):
        raise value.wrong("a folder, made when it is not there, for example /var/lib/rater")
    return path


def host(value: Value) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,253}", value.text):
        raise value.wrong("a host name or an address, for example 127.0.0.1")
    return value.text


def flag(value: Value) -> bool:
    if value.text not in ("true", "false"):
        raise value.wrong("true or false")
    return value.text == "true"


def one_of(*words: str) -> Parse:
    def parse(value: Value) -> str:
        if value.text not in words:
            raise value.wrong(f"one of {', '.join(words)}")
        return value.text

    return parse


def whole(least: int, most: int, example: int) -> Parse:
    def parse(value: Value) -> int:
        digits = value.text
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 18 and least <= int(digits) <= most):
            raise value.wrong(f"a whole number from {least} to {most}, for example {example}")
        return int(digits)

    return parse


def text(value: Value) -> str:
    if not value.text:
        raise value.wrong("a text")
    return value.text


def secret(value: Value) -> Secret:
    if not value.text:
        raise SettingsRefused(f"{value.origin} is empty; expected a password")
    return Secret(value.text)


def secret_file(value: Value) -> Secret:
    """The content of a file, without the line end an editor leaves; refused when everybody on the machine can read it."""
    if not Path(value.text).is_file():
        # Not shown: what is in the wrong place may be the password itself.
        raise SettingsRefused(f"{value.origin} names no file; expected one with a password in it")
    path = private_file(value)
    try:
        found = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise value.wrong("a file in UTF-8") from None
    except OSError as error:
        raise SettingsRefused(
            f"{value.origin} is '{path}': {error.strerror}; expected a file that can be read"
        ) from None
    found = found.removesuffix("\n").removesuffix("\r")
    if not found:
        raise value.wrong("a file with a password in it; it is empty")
    return Secret(found)


def private_file(value: Value) -> Path:
    path = existing_file(value)
    mode = path.stat().st_mode & 0o777
    if mode & 0o007:
        raise value.wrong(f"a file that others cannot touch; its mode is {mode:04o}: run chmod o-rwx {path}")
    return path
