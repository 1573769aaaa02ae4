//! One YAML file builds a network, runs transfer programs in it, breaks it, and gives a verdict.

fn main() {}
