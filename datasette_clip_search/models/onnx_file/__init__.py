"""ONNX files from databases, which may be a stranger's: read, judged, and run within limits.

`wire` reads protobuf, and `graph_model` reads an ONNX file and refuses whatever our towers never
contain. `registry` lists the operators, whose rules in `operators`, `windows` and `movements`
compute outputs and cost. `check` compares the cost with the limits, and `session` creates every
session of ONNX Runtime in the project. `towers` may import it.
"""
