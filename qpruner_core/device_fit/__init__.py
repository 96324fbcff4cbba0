"""A budget that means the device: what is left for weights beside KV cache, activations and the engine's own share."""
