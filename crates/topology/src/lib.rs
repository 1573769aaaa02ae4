//! Topology files: parsed, validated, resolved into a plan.
//!
//! * [`source`]: a file's text and name; the caller reads it.
//! * [`spec`]: what the file says, well formed.
//! * [`resolve`](mod@resolve): names looked up, defaults filled in, sense checked.
//! * [`mod@sweep`]: one topology many times, with other values at some paths.
//! * [`plan`]: what is to be built and run, with nothing left to look up.
//! * [`diagnostic`]: all that is wrong, with place, excerpt and the nearest right name.
//! * [`shape`](mod@shape): one link in a few words, outside of any file.
//! * [`schema`](mod@schema): the format as JSON Schema, for editors.
//!
//! ```
//! use machine::Seed;
//! use topology::{Overrides, Source};
//!
//! let source = Source::new("pair.yaml", "name: pair\nnodes: {a: {run: [sleep, 1]}, b: {run: [sleep, 1], after: a}}\n");
//! let plan = topology::load(&source, &Overrides::new(Seed::new(7)))?;
//! assert_eq!(plan.nodes()[1].after, [plan.node_named("a").unwrap()]);
//!
//! let wrong = Source::new("pair.yaml", "name: pair\nnodes: {a: {run: [sleep, 1], afer: b}}\n");
//! let diagnostics = topology::load(&wrong, &Overrides::new(Seed::new(7))).unwrap_err();
//! assert!(diagnostics.to_string().contains("did you mean `after`?"));
//! # Ok::<(), topology::Diagnostics>(())
//! ```
#![forbid(unsafe_code)]

pub mod diagnostic;
mod findings;
pub mod plan;
pub mod resolve;
mod roles;
pub mod schema;
pub mod shape;
pub mod source;
pub mod spec;
pub mod sweep;
mod yaml;

pub use diagnostic::{Colour, Diagnostic, Diagnostics};
pub use plan::Plan;
pub use resolve::{NetemSupport, Overrides, resolve};
pub use schema::schema;
pub use shape::{Shape, shape};
pub use source::Source;
pub use spec::{Spec, parse};
pub use sweep::{Sweep, sweep};
pub use yaml::{Setting, SettingError};

/// Reads a topology file and resolves it: [`parse`], then [`resolve`](fn@resolve).
///
/// # Errors
///
/// Everything that is wrong with the file or the settings.
pub fn load(source: &Source, overrides: &Overrides) -> Result<Plan, Diagnostics> {
    resolve(&parse(source, &overrides.set)?, source, overrides)
}
