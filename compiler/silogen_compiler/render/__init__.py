"""Diagnostics as text for people and for other programs, one module a format."""
