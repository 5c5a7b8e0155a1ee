"""Makes and checks the towers that `models.towers` runs; needs PyTorch.

Only `embed` and `models.towers.keep_*` import it.
"""
