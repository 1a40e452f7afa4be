"""What is measured of the model families."""
