"""Gemma 3: a SigLIP tower whose patches are pooled, and a Gemma whose images see all of themselves."""
