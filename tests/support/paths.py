"""Folders of the project, its demo, its tests and the programs that tests run."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
PROGRAMS = TESTS / "programs"
ROOT = TESTS.parent
DEMO_MODEL = ROOT / "demo" / "model"
DEMO_PICTURES = ROOT / "demo" / "pictures"
