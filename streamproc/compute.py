"""Runs functions off the event loop."""
