//! Nodes as containers of this machine's Docker daemon, through its API.
//!
//! * [`daemon`]: the daemon: whether it is there and will do, and what to do if not.
//! * [`image`]: images: this executable as one, and those that others made.
//! * [`container`]: containers: made, started, awaited, removed.
//!
//! Everything that is made carries [`LABEL_RUN`], and a container removes itself when its init ends. The daemon is asked for
//! containers and nothing else: networks, faults and programs are the business of the inits in them and of the sandbox.

pub mod container;
pub mod daemon;
pub mod image;

pub use container::{Container, ContainerSpec, Mount};
pub use daemon::{Daemon, DockerError};

/// Which run a container or an image belongs to: its run directory.
pub const LABEL_RUN: &str = "testbed.run";

/// The label of images that were made of this program, with its version.
pub const LABEL_IMAGE: &str = "testbed.image";
