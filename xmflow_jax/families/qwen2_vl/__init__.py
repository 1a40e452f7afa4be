"""Qwen2-VL, and what Qwen2.5-VL shares with it."""
