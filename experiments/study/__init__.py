"""The first study (arXiv 2411.18620) rerun by one command: its models, tasks, figures, and the shapes it published."""
