"""What all tests share."""

from hypothesis import settings

# A busy machine is slow at times: no deadline for a single example.
settings.register_profile("detr", deadline=None)
settings.load_profile("detr")
