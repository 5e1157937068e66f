"""System calls that Python's standard library does not offer, one wrapper each."""
