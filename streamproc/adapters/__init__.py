"""The outside world. Each file implements ports; siblings never import each other."""
