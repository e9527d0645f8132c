"""What people could use instead, to be measured beside the service."""
