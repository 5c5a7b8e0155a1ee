"""Files that make a decoder crash, hang or print, in a format that a Pillow plugin reads."""

import random
from pathlib import Path

# A Pillow plugin for files that say what to do; every decoding process loads it as it starts.
PLUGIN = """
import os, signal, sys, time
from PIL import Image, ImageFile

class Trap(ImageFile.ImageFile):
    format = "TRAP"

    def _open(self):
        way = self.fp.read(16)[5:].strip().decode()
        if way == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif way == "hang":
            while True:
                time.sleep(1)
        elif way == "memory":
            raise MemoryError
        elif way == "leave":
            os._exit(3)
        elif way == "exit":
            sys.exit("Goodbye")
        elif way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif way == "print":
            print("Hello " * 10_000)
            print("Hello", file=sys.stderr)
            os.write(1, b"Hello from C")
            os.write(2, b"Hello from C")
        self._size = 8, 8
        self._mode = "RGB"
        self.tile = [ImageFile._Tile("raw", (0, 0, 8, 8), 16, ("RGB", 0, 1))]

Image.register_open("TRAP", Trap, lambda prefix: prefix[:5] == b"TRAP:")
"""


def make_trap(path: Path, way: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = random.Random(path.name).randbytes(8 * 8 * 3)
    path.write_bytes(f"TRAP:{way}".encode().ljust(16) + noise)
    return path
