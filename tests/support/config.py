"""The one way to change CONFIG in a test or in a program that a test starts."""

from datasette_clip_search.common.config import CONFIG


def set_config(**fields: object) -> None:
    """Set fields of CONFIG, the one object that every module reads."""
    for name, value in fields.items():
        if name not in vars(CONFIG):
            raise AttributeError(f"CONFIG has no field {name}")
        # The dataclass is frozen, so that nothing but a test changes it.
        object.__setattr__(CONFIG, name, value)
