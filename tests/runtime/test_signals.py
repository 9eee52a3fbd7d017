"""Real signals to this process."""

import os
import signal
import sys
from contextlib import suppress

import pytest

from zdce.runtime import signals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows ends the process")


def test_one_interrupt_is_raised_while_files_are_cleaned_up():
    raised = 0
    with signals.stop_requested() as event:
        os.kill(os.getpid(), signal.SIGINT)
        assert event.is_set()
        first = event.cause
        # The second SIGINT cuts the work short; what follows must not cut short the cleaning up.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            with suppress(KeyboardInterrupt):
                os.kill(os.getpid(), number)
                continue
            raised += 1
    assert raised == 1
    assert event.cause is first
