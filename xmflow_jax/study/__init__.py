"""One study from options to landed rows: what is asked, of which questions, and how answers become rows.

Stands between the engines (`xmflow_jax.knockout`) and the run folder (`xmflow_jax.run`).
"""
