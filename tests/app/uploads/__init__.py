"""Uploads that go straight to the store."""
