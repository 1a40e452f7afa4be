"""TensorFlow Datasets builders, one module each, that neither build nor read with TensorFlow.

Importing a builder's module registers it, after which `tfds.builder("shapes")` finds it.
"""
