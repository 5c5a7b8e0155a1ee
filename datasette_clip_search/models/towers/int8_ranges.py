"""The calibration of an int8 tower: the range of each activation, as a database keeps it."""

import json
import math

Ranges = dict[str, tuple[float, float, list[int]]]
"""By the name of an activation, its lowest and highest value, and the powers of two by which its
channels are divided first, where that makes them more alike."""

# A new number for each change that alters the vectors of the same model and ranges.
VERSION = 1
MOST_SHIFT = 12


def read_ranges(text: object) -> Ranges | None:
    """Return the ranges in some JSON, or None where it holds none."""
    try:
        ranges: Ranges = {
            str(name): (float(low), float(high), [int(shift) for shift in shifts])
            for name, (low, high, shifts) in json.loads(str(text)).items()
        }
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    allowed = {*range(-MOST_SHIFT, MOST_SHIFT + 1)}
    for low, high, shifts in ranges.values():
        if not (math.isfinite(low) and math.isfinite(high) and {*shifts} <= allowed):
            return None
    return ranges
