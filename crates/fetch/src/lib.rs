//! The multi-source download engine.
