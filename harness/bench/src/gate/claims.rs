//! G3: the README says what the published data say.
//!
//! The README's table stands between two markers and links the results folder that it comes from. Every one of
//! its lines must be what `kmesh-bench report` makes of that folder today, figures and verdicts included; so
//! nobody can edit a number, and no change of the method can leave an old one standing.

use super::verdict::{Check, Outcome, Stage};
use crate::report::{self, Format};
use std::path::Path;

/// Where the README's table begins and ends.
const MARKERS: [&str; 2] = ["<!-- claims:begin -->", "<!-- claims:end -->"];

/// Compares the README below `repository` with the folder it links.
pub fn check(repository: &Path) -> Check {
    let done = |outcome, message: String| Check::new(Stage::G3, "claims", outcome, message);
    let readme = match std::fs::read_to_string(repository.join("README.md")) {
        Ok(text) => text,
        Err(error) => return done(Outcome::Fail, format!("README.md: {error}")),
    };
    let Some(block) = between(&readme) else {
        return done(
            Outcome::Fail,
            format!(
                "README.md has no table between {} and {}",
                MARKERS[0], MARKERS[1]
            ),
        );
    };
    let Some(folder) = linked_folder(block) else {
        return done(
            Outcome::Fail,
            "README.md's claim table links no folder below results/".to_owned(),
        );
    };
    let results = match report::read_all(&repository.join(folder)) {
        Ok(results) => results,
        Err(error) => return done(Outcome::Fail, error.to_string()),
    };
    let held = report::claim_rows_of(&results);
    let table = report::claims_as_table(&held, Format::Markdown);
    let strangers = not_in(block, &table);
    if let Some(first) = strangers.first() {
        return done(
            Outcome::Fail,
            format!(
                "{} lines of README.md's claim table are not what kmesh-bench report {folder} --format markdown says, the first: {first}",
                strangers.len()
            ),
        );
    }
    done(
        Outcome::Pass,
        format!(
            "all {} claims in README.md are those of {folder}",
            held.len()
        ),
    )
    .with(&held)
}

fn between(readme: &str) -> Option<&str> {
    let (_, after) = readme.split_once(MARKERS[0])?;
    Some(after.split_once(MARKERS[1])?.0)
}

/// The first `results/FOLDER` that is linked.
fn linked_folder(block: &str) -> Option<&str> {
    let start = block.find("(results/")? + 1;
    let link = &block[start..start + block[start..].find([')', '#'])?];
    let end = link
        .match_indices('/')
        .nth(1)
        .map_or(link.len(), |(at, _)| at);
    Some(&link[..end])
}

/// Lines of the first table in `block` that `table` does not have.
fn not_in<'a>(block: &'a str, table: &str) -> Vec<&'a str> {
    let ours: Vec<&str> = table.lines().map(str::trim).collect();
    block
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
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
        assert_eq!(linked_folder("no link"), None);
    }

    #[test]
    fn this_readme_says_what_its_results_say() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let found = check(&repository);
        assert_eq!(found.outcome, Outcome::Pass, "{}", found.message);
    }

    #[test]
    fn an_edited_figure_is_found() {
        let table = "| a | b |\n| --- | --- |\n| 5x | 3.0 [2.9, 3.1] |\n";
        assert!(not_in(BLOCK, table).is_empty());
        assert_eq!(
            not_in(&BLOCK.replace("3.0", "5.0"), table),
            ["| 5x | 5.0 [2.9, 3.1] |"]
        );
    }
}
