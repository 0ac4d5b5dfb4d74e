"""`python -m streamproc` is the command `streamproc`."""

from streamproc.cli import main

main(prog_name="streamproc")
