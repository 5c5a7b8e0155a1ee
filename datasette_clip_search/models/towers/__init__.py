"""Text towers that travel with a database, and answer text queries without torch.

`make` turns a model's own into one of ONNX Runtime's and checks it, `stored` keeps it in rows,
`tower` runs it.
"""
