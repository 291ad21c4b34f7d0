//! What people read: tables, claim table, drawings, page, exports, results folder.

mod claims;
mod folder;
mod history;
mod html;
mod losses;
pub mod plot;
mod profile;
mod stored;
mod table;
mod words;

pub use claims::{ClaimRow, claim_rows, claim_rows_of, subjects};
pub use folder::{
    ReadError, Stored as StoredFile, read_summaries, regenerate, try_folder, write_breakdown,
    write_scenario,
};
pub use history::{RunLine, read_history, run_line};
pub use html::page;
pub use losses::{Loss, losses};
pub use profile::breakdown_tables;
pub use stored::{Stored, read_all};
pub use table::{Table, fit, never_fold};
pub use words::{
    ClaimLine, Compared, Format, claim_lines, claim_table, claims_as_table, compared, comparison,
    loss_lines, scenario_report,
};
