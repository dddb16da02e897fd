"""The services: small processes that exchange messages over the bus, one package each, one anatomy for all."""
