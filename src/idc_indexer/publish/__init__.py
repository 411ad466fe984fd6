"""Publish releases: versions that never change, `current`, and what readers see."""
