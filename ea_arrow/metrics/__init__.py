"""Metrics over columns: tables in, numbers out. Each metric is a module; import what you use."""
