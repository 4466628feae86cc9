"""Passwords from the terminal, or from a line of stdin where there is none (contract cli 2.8, 3.17)."""

from __future__ import annotations

import sys

from petcd.cli.etcdctl.commands import write


def ask_password(prompt: str) -> str:
    """Print the prompt on stdout, read one line without echo, and end the line."""
    write(prompt)
    stdin = sys.stdin.buffer
    restore = None
    if sys.stdin.isatty():
        import termios

        number = sys.stdin.fileno()
        restore = termios.tcgetattr(number)
        silent = termios.tcgetattr(number)
        silent[3] &= ~termios.ECHO
        termios.tcsetattr(number, termios.TCSAFLUSH, silent)
    try:
        line = stdin.readline()
    finally:
        if restore is not None:
            termios.tcsetattr(number, termios.TCSAFLUSH, restore)
    write("\n")
    return line.decode("utf-8", "surrogateescape").rstrip("\r\n")
