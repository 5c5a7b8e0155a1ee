"""The size limits of a function's arguments."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """The most bytes that an argument may have as `text` and as `blob`, checked before a copy.

    `name` begins the error message. If `characters` is given, the message names it as the limit of
    a text.
    """

    name: str
    text: int
    blob: int
    characters: int | None = None

    def refusal(self, size: int, is_text: bool) -> str:
        """Return the error message for an argument of `size` bytes."""
        limit = str(self.text if is_text else self.blob)
        if is_text and self.characters:
            limit = f"{self.characters} characters"
        return f"{self.name} has {size} bytes and the limit is {limit}"
