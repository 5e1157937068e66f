"""The snapshotter's tables."""
