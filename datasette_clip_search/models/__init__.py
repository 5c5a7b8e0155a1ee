"""OpenCLIP models: checkpoints on disk, encoders, number formats and towers.

It imports `pictures`, `database` and `common`. `search`, `embed`, `publish` and the front doors
may import it.
"""
