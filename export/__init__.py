"""Exporters: one module per format, each runnable by path."""
