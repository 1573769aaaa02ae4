//! The role programs and the node init.
