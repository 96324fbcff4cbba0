"""The frontier of bytes against damage: ours and what a user would otherwise run, in one run, on the same texts.

``python -m bench.frontier`` measures it; see :mod:`bench.frontier.__main__`.
"""
