"""The encoder of a query: the tower that a database brings, or else the model itself in torch.

`search`, `web` and `cli` may import it; nothing else in `models` does.
"""
