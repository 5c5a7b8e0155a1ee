"""The question of a search: the query parameters of the page's address."""

import base64
import re
from dataclasses import asdict, dataclass

from ..common.arrays import Vectors
from ..common.config import CONFIG
from ..common.errors import ModelMismatch, QueryError
from ..database.model import Model
from ..database.vectors import encode_float16, is_vector


@dataclass(frozen=True)
class Question:
    """Words, the id of a picture, or the vector of an uploaded one; none for the newest pictures.

    `vector` is text in the format of `read_question`. `model` is the id or name of the model as the
    address has it, or None for the database's default.
    """

    q: str | None
    like: int | None
    vector: str | None
    model: str | None
    k: int

    @property
    def value(self) -> str | int | bytes | None:
        """The query in the form that search() takes."""
        if self.vector is not None:
            return _from_base64(self.vector.partition(".")[2])
        return self.q if self.like is None else self.like

    def parameters(self, **changed: int) -> dict[str, str | int]:
        """Return the query parameters that ask this question again."""
        asked = asdict(self) | changed
        if asked["k"] == CONFIG.results_per_page:
            del asked["k"]
        return {name: value for name, value in asked.items() if value is not None}

    def about(self, image_id: int) -> dict[str, str | int]:
        """Return the query parameters that ask for pictures like the given one."""
        return {"like": image_id} | ({"model": self.model} if self.model else {})


def read_question(
    model: Model, q: str | None, like: str | None, vector: str | None, named: str | None,
    k: str | None,
) -> Question:  # fmt: skip
    """Read the query parameters; empty ones count as missing.

    `named` is the parameter that names a model, and `model` is that model or the default.

    `vector` is the start of the model's fingerprint, a full stop, and the vector in float16 as
    URL-safe base64. That is short enough for an address, and no other model accepts it.

    Raises QueryError for invalid parameters, ModelMismatch for a vector of another model.
    """
    most = CONFIG.max_results_per_page
    number = CONFIG.results_per_page
    if k:
        # int() also accepts underscores and other digits.
        number = int(k) if re.fullmatch("[0-9]{1,9}", k) else 0
        if not 1 <= number <= most:
            raise QueryError(
                f"k is the number of pictures to show, from 1 to {most}. The address has {k[:40]!r}"
            )
    if q is not None and not q.strip():
        q = None
    if sum(bool(each) for each in (q, like, vector)) > 1:
        raise QueryError(
            "Search by one thing at a time: words (q), a picture of this database (like), or a "
            "picture of yours (vector)"
        )
    if vector:
        _check_vector(model, vector)
    if like and not re.fullmatch(r"-?[0-9]{1,18}", like):
        raise QueryError(
            f"like is the id of a picture, a number such as 12. The address has {like[:40]!r}"
        )
    return Question(q, int(like) if like else None, vector or None, named or None, number)


def vector_text(model: Model, vector: Vectors) -> str:
    """Return a vector (d,) in the format that `read_question` takes."""
    numbers = base64.urlsafe_b64encode(encode_float16(vector)).decode().rstrip("=")
    return f"{model.fingerprint[:_FINGERPRINT]}.{numbers}"


def _check_vector(model: Model, text: str) -> None:
    fingerprint, stop, numbers = text.partition(".")
    if not stop or not is_vector(_from_base64(numbers), model.dimension):
        raise QueryError(
            f"The address of this search was cut off or changed: {text[:40]!r} is not a vector "
            f"that this page made with {model.label}. Search by your picture again"
        )
    if not model.fingerprint.startswith(fingerprint) or len(fingerprint) < _FINGERPRINT:
        raise ModelMismatch(
            f"The vector of your picture was made with the model {fingerprint[:40]}, but these "
            f"pictures are embedded with {model.label}, {model.fingerprint[:_FINGERPRINT]}. "
            "Search by your picture again"
        )


# The number of characters of a fingerprint that is enough to distinguish models.
_FINGERPRINT = 12


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except ValueError:
        return None
