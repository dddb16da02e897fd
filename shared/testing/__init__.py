"""Helpers for tests: real servers, recorded market data, made-up messages. Never imported by a service."""
