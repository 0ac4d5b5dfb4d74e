"""Pure decisions: no clock, no loop, no I/O. Lists and `now` in, what is due out."""
