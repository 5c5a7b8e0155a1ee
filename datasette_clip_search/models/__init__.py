"""OpenCLIP models: checkpoints on disk, encoders in torch, and towers that run without it.

`search`, `embed`, `publish` and the front doors may import it.
"""
