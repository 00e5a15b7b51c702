"""The statistics behind the gate: each file is one question, with its method and source."""
