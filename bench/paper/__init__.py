"""The paper's claims on our model: LLM-Pruner, QPruner's three methods and ours, pruned by the same ratios, recovered
by as many steps on the same data, and measured alike.

``python -m bench.paper`` measures and writes docs/benchmarks/paper.{md,json} and its pictures.
"""
