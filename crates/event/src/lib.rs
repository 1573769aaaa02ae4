//! The event vocabulary of a run, its fold into a state, and the names of a run directory's files.
