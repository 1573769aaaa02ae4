//! Pid 1 of every node: starts and kills the node's program in place.
