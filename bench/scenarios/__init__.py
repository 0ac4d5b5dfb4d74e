"""What is measured: one scenario a file, found by its name."""
