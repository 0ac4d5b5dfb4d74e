"""Contenders beside the stream: each a program that one scenario runs, ours and the same work by hand."""
