"""Run a Listener and print its messages: python listening.py SECONDS LISTEN ROOT…"""

import sys
import threading

from watchfiles import watch

from datasette_clip_search.embedding.listen import Listener


def say(text: str) -> None:
    print(text, flush=True)


seconds, listen, *roots = sys.argv[1:]
stop = threading.Event()
found = Listener(
    roots,
    lambda path: "ours" in path,
    stop,
    float(seconds),
    watch if listen == "listen" else None,
    lambda text: say(f"note {text}"),
)
for number, _ in enumerate(found.changes()):
    say(f"run {number}")
