//! The conductor's head: node lifecycle, triggers, expectations and verdict, as a state machine.
