"""Recommendation service: state database, HTTP API, client and training data for a refit."""
