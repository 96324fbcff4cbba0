"""Usage of the store by each tenant, its limit, and retention."""
