"""What decides. No I/O, no clock, no logging, no await: told what arrived, it says what to do next."""
