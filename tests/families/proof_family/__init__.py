"""A model family that exists in the tests alone: the proof that one folder is enough."""
