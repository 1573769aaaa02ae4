//! The multi-source download engine: which range from whom, failover, stealing, hedging, verification and resume.
//!
//! It has no socket, no file and no clock. It says `Open(source, range)`, hears `Opened`, `Body` and `Closed`, and may
//! say `Cancel`; HTTP and other protocols are codecs below it.
//!
//! * [`protocol`]: what the engine hears and says; start here to write a driver.
//! * [`engine`]: [`Engine`], the machine.
//! * [`pieces`]: [`ByteRange`], [`Pieces`] and an index that is in range by construction; [`bitmap`], [`ranges`]: sets
//!   of pieces and of bytes.
//! * [`manifest`]: [`Digest`], [`Manifest`], and when two descriptions mean the same file.
//! * [`journal`]: what is on the disk already, in a format that survives tearing.
//! * [`serve`]: the decisions of a file server: `Range`, `If-Range`, entity tags.
//! * [`tuning`]: every constant with its unit and its reason.
#![forbid(unsafe_code)]

pub mod bitmap;
pub mod engine;
pub mod journal;
pub mod manifest;
pub mod pieces;
pub mod protocol;
pub mod ranges;
pub mod serve;
pub mod tuning;

pub use bitmap::Bitmap;
pub use engine::{Blocks, Config, Engine, Progress, Remains, SourceStatus};
pub use manifest::{Digest, Manifest, ManifestError, Validator};
pub use pieces::{ByteRange, PieceIndex, Pieces};
pub use protocol::{
    Aside, Boot, CloseReason, Description, Expectation, Failure, Generation, Hashes, Head, Input, Integrity, Note,
    Outcome, Output, RequestId, SourceId, SourceState, Why,
};
pub use ranges::RangeSet;
