"""The call that is being answered, logs and metrics."""
