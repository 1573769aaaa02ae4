//! YAML with places: read into a tree, changed by settings, decoded into the types of the specification.

mod decode;
mod fields;
mod nearest;
mod setting;
mod tree;

pub(crate) use self::decode::{At, Fault, Reason, decode, listed};
pub(crate) use self::fields::fields_of;
pub(crate) use self::nearest::nearest;
pub use self::setting::{Setting, SettingError};
pub(crate) use self::setting::{apply, parts, plain_or_quoted, put};
pub(crate) use self::tree::{Content, Key, Node};
