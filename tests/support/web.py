"""Helpers for the tests of the web pages."""

import html
import re
import threading

from datasette.version import __version__

ONE = not __version__.startswith("0.")
PAGE = "/-/clip-search/photos"
ROOT_ACTOR = {"id": "root"}


def wait_for_loading():
    for thread in threading.enumerate():
        if thread.name == "clip-search-load":
            thread.join()


def as_actor(datasette, actor):
    return {"cookies": {"ds_actor": datasette.sign({"a": actor}, "actor")}} if actor else {}


def links(response, text):
    found = re.findall(r'<a [^>]*href="([^"]*)"[^>]*>([^<]*)</a>', response.text)
    return [html.unescape(href) for href, label in found if label.strip() == text]


def images(response):
    return [html.unescape(src) for src in re.findall(r'<img src="([^"]*)"', response.text)]
