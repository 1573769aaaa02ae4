//! Runs a scenario on an engine.
