"""Make towers from a model in torch, check them, and store them in a database.

`keep` and `make_int8` import torch and onnx only when they make a tower. Only `embedding` imports
this package, and `cli` the reports of `keep`.
"""
