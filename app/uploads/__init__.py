"""Uploads that go straight to the store, in parts at signed URLs: models, and optionally datasets."""
