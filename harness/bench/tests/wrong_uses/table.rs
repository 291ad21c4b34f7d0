//! The table: one wrong use a line.

/// How a program is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum As {
    /// As whoever runs the test.
    Anyone,
    Root,
    Nobody,
    /// With a stdout that takes nothing.
    Full,
}

/// One wrong use, and what is expected of it.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    pub(crate) code: i32,
    pub(crate) who: As,
    /// Set in its environment.
    pub(crate) variable: Option<(String, String)>,
    pub(crate) program: String,
    pub(crate) words: Vec<String>,
    /// What its message names.
    pub(crate) names: Vec<String>,
}

impl Use {
    /// A row, with `stage` for the folder of the test.
    pub(crate) fn parse(row: &str, stage: &str) -> Self {
        let mut cells = row.split(" | ").map(str::trim);
        let code = cells.next().and_then(|code| code.parse().ok());
        let code = code.unwrap_or_else(|| panic!("no exit code: {row}"));
        let line = cells.next().unwrap_or_else(|| panic!("no command: {row}"));
        let (who, line) = match line.split_once(": ") {
            Some(("root", line)) => (As::Root, line),
            Some(("nobody", line)) => (As::Nobody, line),
            Some(("full", line)) => (As::Full, line),
            _ => (As::Anyone, line),
        };
        let mut words = line
            .split_whitespace()
            .map(|word| word.replace('_', " ").replace("STAGE", stage))
            .peekable();
        let assigned = words.next_if(|word| word.starts_with("KMESH "));
        let variable = assigned.and_then(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name.replace(' ', "_"), value.to_owned()))
        });
        let program = words.next().unwrap_or_else(|| panic!("no program: {row}"));
        let names: Vec<String> = cells.map(|cell| cell.replace("STAGE", stage)).collect();
        assert!(!names.is_empty(), "its message names nothing: {row}");
        Self {
            code,
            who,
            variable,
            program,
            words: words.collect(),
            names,
        }
    }

    /// All rows of the table.
    pub(crate) fn all(stage: &str) -> Vec<Self> {
        include_str!("table.txt")
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| Self::parse(line, stage))
            .collect()
    }
}
