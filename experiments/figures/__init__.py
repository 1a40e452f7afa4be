"""Pictures for the README and the documentation, made from finished runs."""
