//! Virtual time: hosts, links and machines as a graph.
