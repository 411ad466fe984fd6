"""A release: build it, describe it, verify it."""
