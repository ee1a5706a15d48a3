"""Writes everything that is generated from schema/: bundles, Pydantic models, reference pages."""
