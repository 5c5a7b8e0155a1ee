"""What the search page is asked: the parameters of its address."""

import base64
import re
from dataclasses import asdict, dataclass

from ..common.arrays import Vectors
from ..common.config import CONFIG
from ..common.errors import ModelMismatch, QueryError
from ..database import vector_format
from ..database.schema import Model


@dataclass(frozen=True)
class Question:
    """What is searched for: words, the id of a picture, or the vector of one that was sent.

    None of them shows the newest pictures. `vector` is text, as `read_question` takes it, and
    `model` how the one to search by was named, None for the database's default.
    """

    q: str | None
    like: int | None
    vector: str | None
    model: str | None
    k: int

    @property
    def value(self) -> str | int | bytes | None:
        """The query as search() takes it."""
        if self.vector is not None:
            return _from_base64(self.vector.partition(".")[2])
        return self.q if self.like is None else self.like

    def parameters(self, **changed: int) -> dict[str, str | int]:
        """Returns the parameters of the query string that ask this again."""
        asked = asdict(self) | changed
        if asked["k"] == CONFIG.results_per_page:
            del asked["k"]
        return {name: value for name, value in asked.items() if value is not None}

    def about(self, image_id: int) -> dict[str, str | int]:
        """Returns the parameters that ask for pictures like one of those found."""
        return {"like": image_id} | ({"model": self.model} if self.model else {})


def read_question(
    model: Model, q: str | None, like: str | None, vector: str | None, named: str | None,
    k: str | None,
) -> Question:  # fmt: skip
    """Reads the parameters of the query string; an empty box is no question.

    `model` is the one that was `named`, or the default.

    `vector` is the beginning of the model's fingerprint, a full stop, and the vector in float16 as
    base64 for addresses: short enough for one, and never taken for another model's.

    Raises QueryError for what can't be searched for, ModelMismatch for a vector of another model.
    """
    most = CONFIG.max_results_per_page
    number = CONFIG.results_per_page
    if k:
        # int() takes other digits than these, and underscores.
        number = int(k) if re.fullmatch("[0-9]{1,9}", k) else 0
        if not 1 <= number <= most:
            raise QueryError(
                f"This page shows 1 to {most} pictures at a time, and its address asks for "
                f"{k[:40]!r}"
            )
    if q is not None and not q.strip():
        q = None
    if sum(bool(each) for each in (q, like, vector)) > 1:
        raise QueryError(
            "Search by one thing at a time: by words (q), by a picture here (like), or by one of "
            "yours (vector)"
        )
    if vector:
        _check_vector(model, vector)
    if like and not re.fullmatch(r"-?[0-9]{1,18}", like):
        raise QueryError(
            f"A picture here goes by its number, such as 12, and the address names {like[:40]!r}"
        )
    return Question(q, int(like) if like else None, vector or None, named or None, number)


def vector_text(model: Model, vector: Vectors) -> str:
    """Returns a vector (d,) as `read_question` takes it."""
    numbers = base64.urlsafe_b64encode(vector_format.halved(vector)).decode().rstrip("=")
    return f"{model.fingerprint[:_FINGERPRINT]}.{numbers}"


def _check_vector(model: Model, text: str) -> None:
    fingerprint, stop, numbers = text.partition(".")
    if not stop or not vector_format.is_vector(_from_base64(numbers), model.dimension):
        raise QueryError(
            f"The address of this search was cut or changed: {text[:40]!r} is no picture that this "
            f"page turned into a vector of {model.label}. Search by your picture again"
        )
    if not model.fingerprint.startswith(fingerprint) or len(fingerprint) < _FINGERPRINT:
        raise ModelMismatch(
            f"Your picture was turned into a vector by the model {fingerprint[:40]}, but these "
            f"pictures are embedded by {model.label}, {model.fingerprint[:_FINGERPRINT]}. "
            "Search by your picture again"
        )


# Characters of a fingerprint that tell models apart.
_FINGERPRINT = 12


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except ValueError:
        return None
