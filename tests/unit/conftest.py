"""Settings of the property tests."""

from hypothesis import settings

# The machines of the project are shared and slow at times; a slow example is not a bug.
settings.register_profile("pocketseg", deadline=None, print_blob=True)
settings.load_profile("pocketseg")
