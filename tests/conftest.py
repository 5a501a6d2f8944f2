"""Settings of all tests."""

from hypothesis import settings

# On a busy machine any example can take longer than hypothesis's 200 ms.
settings.register_profile("ea-arrow", deadline=None)
settings.load_profile("ea-arrow")
