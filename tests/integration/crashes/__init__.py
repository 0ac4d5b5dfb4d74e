"""kill -9 at each point between what sets something off and its effects."""
