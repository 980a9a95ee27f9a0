"""The runner: merges and whole pictures in C++, for what is no Python (docs/native.md)."""
