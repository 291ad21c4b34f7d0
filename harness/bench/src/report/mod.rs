//! What people read: tables, claim table, plot, results folder.

mod claims;
mod folder;
mod plot;
mod table;
mod words;

pub use claims::{ClaimRow, claim_rows, subjects};
pub use folder::{ReadError, Stored, read_summaries, write_scenario};
pub use plot::svg;
pub use table::Table;
pub use words::{Compared, Format, claim_table, compared, comparison, scenario_report};
