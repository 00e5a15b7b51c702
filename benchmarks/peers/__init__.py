"""One short script a peer, each run by ``benchmarks/peers.py`` in that peer's own virtual environment."""
