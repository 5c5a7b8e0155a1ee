"""The encoder of a query: the tower of its database, or else the model in torch.

`search`, `web` and `cli` may import it; nothing else in `models` does.
"""
