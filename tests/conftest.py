"""What all tests share."""

from hypothesis import settings

# No deadline: the first example may compile a kernel, and a busy machine is not a fault.
settings.register_profile("rater", deadline=None)
settings.load_profile("rater")
