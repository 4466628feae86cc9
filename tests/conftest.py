"""What every test may rely on."""

from __future__ import annotations

import signal

# Whoever runs the suite in the background of a script leaves SIGINT ignored, and so it would be for every
# program that a test starts and means to interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
