"""Secrets: texts that come from a variable or a private file, and that no text, repr or error shows."""


class Secret:
    """A text that shows itself only when asked to. No dataclass: `asdict` of what holds it would write it out."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(***)"


class Hidden(str):
    """A password on its way into a client's arguments: the text itself, but not in the repr of what holds it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"
