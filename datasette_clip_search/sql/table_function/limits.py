"""The size limits of a function's arguments."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """The most bytes of text, and of a blob, that an argument may have.

    They are counted before anything is copied. `name` begins the error of a larger one, and
    `characters` are the limit that it names for a text, where they are.
    """

    name: str
    text: int
    blob: int
    characters: int | None = None

    def refusal(self, size: int, is_text: bool) -> str:
        """Returns the error of an argument of `size` bytes."""
        limit = str(self.text if is_text else self.blob)
        if is_text and self.characters:
            limit = f"{self.characters} characters"
        return f"{self.name} has {size} bytes and the limit is {limit}"
