"""Qwen2.5-VL: Qwen2-VL with windows in its tower."""
