"""Why a record was not rated or a command not applied: one enum, used by kernels, schemas, metrics and people alike."""

from enum import IntEnum


class Reason(IntEnum):
    """0 is "nothing is wrong"; the name in lower case is what the contract writes."""

    NONE = 0
    NOT_JSON = 1
    NOT_AN_OBJECT = 2
    TOO_LARGE = 3
    DUPLICATE_KEY = 4
    BAD_FIELD = 5
    MISSING_FIELD = 6
    BAD_TIMES = 7
    KEY_MISMATCH = 8
    UNKNOWN_TENANT = 9
    CONFLICT = 10
    BAD_SOURCE_ROW = 11
    UNKNOWN_COMMAND = 12
    ALREADY_OPEN = 13
    ALREADY_ASSIGNED = 14
    NOT_ASSIGNED = 15
    NOT_IN_FLIGHT = 16
    OUT_OF_RANGE = 17

    @property
    def text(self) -> str:
        return self.name.lower()


REASON_OF_TEXT = {reason.text: reason for reason in Reason}

# The same numbers for kernels, which read constants of a module and nothing else.
NOT_JSON, TOO_LARGE, BAD_FIELD, MISSING_FIELD = 1, 3, 5, 6
BAD_TIMES, KEY_MISMATCH, UNKNOWN_TENANT, CONFLICT = 7, 8, 9, 10
UNKNOWN_COMMAND, ALREADY_OPEN, ALREADY_ASSIGNED, NOT_ASSIGNED = 12, 13, 14, 15
NOT_IN_FLIGHT, OUT_OF_RANGE = 16, 17


class InvariantBroken(Exception):
    """The house contradicts itself: nothing of the batch may be emitted."""
