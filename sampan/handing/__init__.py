"""Bytes in bulk between processes of one host: descriptors that are handed over, and what is said on them."""
