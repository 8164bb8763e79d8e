"""What tests of several folders share, imported as `helpers.NAME`: `pythonpath` in pyproject.toml has `tests`."""
