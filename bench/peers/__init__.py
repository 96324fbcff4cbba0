"""Other tools that make a model smaller, beside ours at the same bytes; each file of a tool imports it only when used.

``python -m bench.peers`` measures them; the tools are the extra ``bench-peers``.
"""
