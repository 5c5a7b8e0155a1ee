"""ONNX files that come from databases: read strictly, judged before they run, run to a bound.

`wire` reads protobuf, `model` reads an ONNX file and refuses all that no tower of ours holds,
`shapes` computes what each operator makes and costs, `check` holds that against the limits, and
`session` makes every session of ONNX Runtime in the project.
"""
