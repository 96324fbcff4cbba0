"""Files that go straight to the store, in parts at signed URLs: models, and datasets that are sent that way."""
