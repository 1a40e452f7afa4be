"""The machine: devices and what is spread over them, memory, processes, compiled programs on disk."""
