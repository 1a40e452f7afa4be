"""The `shapes` data set: drawn scenes, questions of the study's six kinds about them, captions.

Scenes are drawn from a seed, so nothing is stored and a split has as many scenes as one asks for.
"""
