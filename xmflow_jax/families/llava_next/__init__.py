"""LLaVA-NeXT (LLaVA-1.6): an image as a small whole and as tiles of a large one."""
