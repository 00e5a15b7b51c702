"""Property tests here judge results, not speed, and find the same cases every time."""

from hypothesis import settings

settings.register_profile("edgeq", deadline=None, derandomize=True)
settings.load_profile("edgeq")
