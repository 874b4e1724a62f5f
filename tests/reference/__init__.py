"""Executable specifications: each formula literally, slow and obvious. The oracle of every kernel's tests."""
