"""Towers: halves of a model that a database stores and ONNX Runtime runs, without torch.

`stored` reads and writes their rows, `text`, `image` and `int8` run them, and `making` makes them.
`models.queries`, `embedding` and `publish` may import it.
"""
