"""What a training shows of its health: `measures.py` says what is measured, `alarms.py` when it is
alarming."""
