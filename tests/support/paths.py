"""Where the project, its demo, and the programs that tests run are."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
PROGRAMS = TESTS / "programs"
ROOT = TESTS.parent
DEMO_MODEL = ROOT / "demo" / "model"
DEMO_PICTURES = ROOT / "demo" / "pictures"
