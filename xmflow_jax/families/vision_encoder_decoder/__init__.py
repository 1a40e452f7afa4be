"""A vision encoder whose states a GPT-2 reads by cross-attention; the prompt holds text alone."""
