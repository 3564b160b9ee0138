"""What each command does once its arguments are checked: `create`, `get` and `wait`, `emulate` and `demo`."""
