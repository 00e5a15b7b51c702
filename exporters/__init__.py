"""How the integers are written: one folder a format, and the audit that reads a file back against the plan."""
