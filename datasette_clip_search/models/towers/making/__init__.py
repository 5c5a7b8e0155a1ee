"""Makes towers from a model in torch, checks them, and stores them in a database.

`keep` and `make_int8` import torch and onnx only when they make a tower. Only `embed` imports this
package, and `cli` the reports of `keep`.
"""
