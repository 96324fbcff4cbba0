"""A budget for a device: memory left for weights beside KV cache, activations and the engine's own share."""
