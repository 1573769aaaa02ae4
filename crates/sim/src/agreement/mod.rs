//! Links held against their model: which, by what traffic, and by which figures every driver of links is judged.
//!
//! The same rows are measured in virtual time here, over the relay and over netem. What the model gives for many seeds says
//! what to expect of any driver, and how far chance alone leads from it.
//!
//! * [`table`]: the rows.
//! * [`figures`]: what is told of the packets of a row.
//! * [`model`]: the rows in virtual time, and what they say of any other driver.
//!
//! ```
//! use machine::Seed;
//! use sim::agreement::{Expected, Model, rows};
//!
//! let rows = &rows()[..1];
//! let model = Model::of(rows).expect("the table is right");
//! let expected: Expected = model.expected(&rows[0], 16);
//! let figures = model.figures(&rows[0], Seed::new(7));
//! assert_eq!(expected.strays(&rows[0], &figures, &Default::default()), []);
//! ```

pub mod figures;
pub mod model;
pub mod table;

pub use figures::{Arrival, Figure, Figures};
pub use model::{Expected, Leeway, Model, Stray};
pub use table::{Kind, Netem, Row, Traffic, Way, rows, topology};
