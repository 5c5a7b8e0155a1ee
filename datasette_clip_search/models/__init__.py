"""OpenCLIP models: checkpoints on disk, encoders in torch, and towers that run without it.

`search`, `embedding`, `publish` and the packages above them may import it.
"""
