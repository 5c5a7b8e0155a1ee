"""An 8-bit image model for processors: made from an OpenCLIP model, checked and kept.

`models` and `embed` may import it.
"""
