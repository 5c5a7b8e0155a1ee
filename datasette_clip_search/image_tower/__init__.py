"""Image towers that travel with a database, and encode pictures without torch.

`make` turns a model's own into one of ONNX Runtime's and checks it, `tower` runs it. In the
database they are kept as text towers are, by text_tower.stored.
"""
