"""The way out: models as other tools load them, compared with what the endpoint answers."""
