//! G3: the documents say what the published data say.
//!
//! Each document's table stands between two markers and links the results folder that it comes from. Every one of
//! its lines must be what `kmesh-bench report` makes of that folder today, figures and verdicts included; so
//! nobody can edit a number, and no change of the method can leave an old one standing.

use super::verdict::{Check, Outcome, Stage};
use crate::report::{self, ClaimRow, Format};
use std::path::Path;

/// Where a table begins and ends.
const MARKERS: [&str; 2] = ["<!-- claims:begin -->", "<!-- claims:end -->"];

/// The documents with such a table: the first a selection, the second all claims.
const DOCUMENTS: [&str; 2] = ["README.md", "docs/RESULTS.md"];

/// Compares the documents below `repository` with the folders they link.
pub fn check(repository: &Path) -> Check {
    let done = |outcome, message: String| Check::new(Stage::G3, "claims", outcome, message);
    let compared: Result<Vec<(usize, Vec<ClaimRow>)>, String> = DOCUMENTS
        .iter()
        .map(|name| compare(repository, name))
        .collect();
    match compared {
        Ok(compared) => {
            let lines: Vec<String> = DOCUMENTS
                .iter()
                .zip(&compared)
                .map(|(name, (lines, _))| format!("{lines} in {name}"))
                .collect();
            let message = format!("claims are those of the results: {}", lines.join(", "));
            done(Outcome::Pass, message).with(&compared[0].1)
        }
        Err(message) => done(Outcome::Fail, message),
    }
}

/// How many claims the document's table has, and the claims of its folder; or what is wrong with it.
fn compare(repository: &Path, name: &str) -> Result<(usize, Vec<ClaimRow>), String> {
    let text = std::fs::read_to_string(repository.join(name))
        .map_err(|error| format!("{name}: {error}"))?;
    let block = between(&text).ok_or_else(|| {
        format!(
            "{name} has no table between {} and {}",
            MARKERS[0], MARKERS[1]
        )
    })?;
    let folder = linked_folder(block)
        .ok_or_else(|| format!("{name}'s claim table links no folder below results/"))?;
    let results = report::read_all(&repository.join(folder))
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    let held = report::claim_rows_of(&results);
    let table = report::claims_as_table(&held, Format::Markdown);
    let lines = table_lines(block);
    if lines.len() < 3 {
        return Err(format!("{name}'s claim table has no line"));
    }
    let strangers = not_in(&lines, &table);
    match strangers.first() {
        None => Ok((lines.len() - 2, held)),
        Some(first) => Err(format!(
            "{} lines of {name}'s claim table are not what kmesh-bench report {folder} --format markdown says, the first: {first}",
            strangers.len()
        )),
    }
}

fn between(readme: &str) -> Option<&str> {
    let (_, after) = readme.split_once(MARKERS[0])?;
    Some(after.split_once(MARKERS[1])?.0)
}

/// The first `results/FOLDER` that is linked, from the top or from a folder below it.
fn linked_folder(block: &str) -> Option<&str> {
    let start = ["(results/", "(../results/"]
        .iter()
        .filter_map(|link| {
            block
                .find(link)
                .map(|at| at + link.len() - "results/".len())
        })
        .min()?;
    let link = &block[start..start + block[start..].find([')', '#'])?];
    let end = link
        .match_indices('/')
        .nth(1)
        .map_or(link.len(), |(at, _)| at);
    Some(&link[..end])
}

/// Lines of the first table in `block`.
fn table_lines(block: &str) -> Vec<&str> {
    block
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .collect()
}

/// Those of `lines` that `table` does not have.
fn not_in<'a>(lines: &[&'a str], table: &str) -> Vec<&'a str> {
    let ours: Vec<&str> = table.lines().map(str::trim).collect();
    lines
        .iter()
        .copied()
        .filter(|line| !ours.contains(line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "by [results/2026-x](results/2026-x/README.md):\n\n| a | b |\n| --- | --- |\n| 5x | 3.0 [2.9, 3.1] |\n\n- text | with a pipe\n| another | table |\n";

    #[test]
    fn the_folder_is_the_linked_one() {
        assert_eq!(linked_folder(BLOCK), Some("results/2026-x"));
        assert_eq!(linked_folder("(results/y)"), Some("results/y"));
        assert_eq!(linked_folder("(../results/z/README.md)"), Some("results/z"));
        assert_eq!(linked_folder("no link"), None);
    }

    #[test]
    fn these_documents_say_what_their_results_say() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let found = check(&repository);
        assert_eq!(found.outcome, Outcome::Pass, "{}", found.message);
    }

    #[test]
    fn an_edited_figure_is_found() {
        let table = "| a | b |\n| --- | --- |\n| 5x | 3.0 [2.9, 3.1] |\n";
        assert!(not_in(&table_lines(BLOCK), table).is_empty());
        assert_eq!(
            not_in(&table_lines(&BLOCK.replace("3.0", "5.0")), table),
            ["| 5x | 5.0 [2.9, 3.1] |"]
        );
    }

    #[test]
    fn a_document_without_its_table_fails() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(folder.path()).outcome, Outcome::Fail);
        std::fs::write(folder.path().join("README.md"), "no table").unwrap();
        let found = check(folder.path());
        assert!(
            found.message.contains("README.md has no table"),
            "{}",
            found.message
        );
    }
}
