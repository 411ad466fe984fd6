"""Which release this is. `wheel` writes the real one."""

version = "0"
published = "https://example.org/0/release_artifacts"
