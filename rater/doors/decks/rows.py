"""A CSV file -> rows with the lines they begin on. What cannot be split or decoded ends the reading with a finding."""

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path

from rater.doors.decks.findings import ERROR, SENTENCE_SHOWN, BadFile, Finding, as_shown
from rater.doors.decks.profile import UTF_8

Row = tuple[int, int, list[str]]


def rows_of(path: Path, encoding: str = UTF_8, delimiter: str = ",", skip_lines: int = 0) -> Iterator[Row]:
    """(first line, last line, cells) of each row that is not blank.

    Quotes are read strictly: a lone one would otherwise swallow the rows behind it, and their prices, without a word.
    """
    last = skip_lines
    try:
        with path.open(encoding=encoding, newline="") as stream:
            for _ in range(skip_lines):
                next(stream, None)
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            for cells in reader:
                first, last = last + 1, skip_lines + reader.line_num
                if any(map(str.strip, cells)):
                    yield first, last, cells
    except csv.Error as error:
        raise BadFile(
            _finding(
                "bad_csv",
                path,
                last + 1,
                f"a row that begins here cannot be split: {error}",
                "quotes in pairs, and cells of text",
            )
        ) from None
    except FileNotFoundError:
        raise BadFile(_finding("no_file", path, 0, "no such file", "the CSV file that deck.toml names")) from None
    except OSError as error:
        raise BadFile(_finding("no_file", path, 0, f"cannot be read: {error.strerror}", "a readable file")) from None
    except UnicodeError:
        raise BadFile(_undecodable(path, encoding)) from None


def _finding(rule: str, path: Path, line: int, found: str, expected: str) -> Finding:
    return Finding(ERROR, rule, str(path), line, as_shown(found, SENTENCE_SHOWN), expected)


def _undecodable(path: Path, encoding: str) -> Finding:
    """Where a file is not in its encoding: the stream knows only the place within its buffer."""
    expected = "the file's own encoding, as `encoding` in deck.toml names it"
    try:
        codecs.getincrementaldecoder(encoding)().decode(path.read_bytes(), final=True)
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x} is not {encoding}"
        return _finding("bad_encoding", path, error.object.count(b"\n", 0, error.start) + 1, found, expected)
    except UnicodeError as error:
        return _finding("bad_encoding", path, 0, f"not {encoding}: {error}", expected)
    return _finding("bad_encoding", path, 0, f"not {encoding}", expected)
