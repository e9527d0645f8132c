"""The audit trail: who changed which account, session, key or token, when, from where and why."""
