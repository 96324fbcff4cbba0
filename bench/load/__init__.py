"""How the service holds up under load, beside the least that could do each thing: ``python -m bench.load``."""
