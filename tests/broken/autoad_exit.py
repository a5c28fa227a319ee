"""Fault: the plugin ends the program when it is imported."""

import sys

sys.exit("boom")
