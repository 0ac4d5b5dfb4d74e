"""Trigger 2, requests, and what is served beside them: probes and metrics."""
