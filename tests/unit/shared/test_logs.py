from shared.logs import redact


def test_secrets_are_redacted_by_key_and_by_shape() -> None:
    seed = "SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU"
    line = redact(None, "", {"event": f"using {seed} now", "api_key": "abc", "Password": "x", "instrument": "SUI-USDT"})
    assert line == {"event": "using *** now", "api_key": "***", "Password": "***", "instrument": "SUI-USDT"}
