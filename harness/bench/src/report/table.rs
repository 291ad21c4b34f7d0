//! Tables, for a terminal and for Markdown, from the same cells; and text that fits a terminal.

use std::io::IsTerminal as _;
use std::ops::Range;
use std::sync::OnceLock;

/// Set once by `--wide`: nothing is folded.
static WIDE: OnceLock<()> = OnceLock::new();

/// Folds nothing from now on.
pub fn never_fold() {
    // A second time changes nothing.
    let _ = WIDE.set(());
}

/// Columns that text has: `COLUMNS`, else the terminal's; none where stdout is no terminal, or after [`never_fold`].
fn columns() -> Option<usize> {
    if WIDE.get().is_some() {
        return None;
    }
    let told = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    let seen = || {
        let size = terminal_size::terminal_size().filter(|_| std::io::stdout().is_terminal());
        size.map(|(width, _)| usize::from(width.0))
    };
    told.or_else(seen).filter(|columns| *columns >= 40)
}

/// Text whose lines fit the terminal: a longer one goes on below, two columns further in.
pub fn fit(text: &str) -> String {
    match columns() {
        Some(columns) => text
            .split_inclusive('\n')
            .map(|line| folded(line, columns))
            .collect(),
        None => text.to_owned(),
    }
}

fn folded(line: &str, columns: usize) -> String {
    if line.trim_end().chars().count() <= columns {
        return line.to_owned();
    }
    let indent = line.len() - line.trim_start().len();
    let mut lines = vec![" ".repeat(indent)];
    let mut at = indent;
    let mut first = true;
    for word in line.split_whitespace() {
        let width = word.chars().count();
        if at + width > columns && !first {
            lines.push(" ".repeat(indent + 2));
            at = indent + 2;
        }
        if let Some(last) = lines.last_mut() {
            *last += word;
            last.push(' ');
        }
        at += width + 1;
        first = false;
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    let text = lines.join("\n");
    if line.ends_with('\n') {
        text + "\n"
    } else {
        text
    }
}

/// A table of text. Columns of numbers are aligned to the right.
#[derive(Debug, Clone, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    numbers: Range<usize>,
}

impl Table {
    /// An empty table with these column heads; `numbers` are the columns aligned to the right.
    pub fn new(header: &[&str], numbers: Range<usize>) -> Self {
        Self {
            header: header.iter().map(|&h| h.to_owned()).collect(),
            rows: Vec::new(),
            numbers,
        }
    }

    /// Adds a row; missing cells stay empty.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// For a terminal: columns padded, two spaces apart, a rule under the header. Where that does not fit, a paragraph per row.
    pub fn text(&self) -> String {
        self.within(columns().unwrap_or(usize::MAX))
    }

    fn within(&self, columns: usize) -> String {
        let widths = self.widths();
        if widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1) > columns {
            return self.paragraphs(columns);
        }
        let line = |cells: &[String]| {
            let padded: Vec<String> = widths
                .iter()
                .enumerate()
                .map(|(i, &width)| {
                    let cell = cells.get(i).map_or("", String::as_str);
                    let gap = " ".repeat(width - cell.chars().count());
                    if self.numbers.contains(&i) {
                        format!("{gap}{cell}")
                    } else {
                        format!("{cell}{gap}")
                    }
                })
                .collect();
            format!("{}\n", padded.join("  ").trim_end())
        };
        let rule = format!(
            "{}\n",
            "-".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1))
        );
        line(&self.header) + &rule + &self.rows.iter().map(|row| line(row)).collect::<String>()
    }

    /// The first cell of each row, and below it a line for each other cell that is not empty.
    fn paragraphs(&self, columns: usize) -> String {
        let names = self.header.iter().skip(1).map(|name| name.chars().count());
        let width = names.max().unwrap_or(0);
        let mut text = String::new();
        for row in &self.rows {
            let first = row.first().map_or("", String::as_str);
            text += &folded(&format!("{first}\n"), columns);
            let cells = self.header.iter().zip(row).skip(1);
            for (name, cell) in cells.filter(|(_, cell)| !cell.is_empty()) {
                let gap = " ".repeat(width - name.chars().count());
                text += &folded(&format!("  {name}{gap}  {cell}\n"), columns);
            }
        }
        text
    }

    /// For Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            format!(
                "| {} |\n",
                cells
                    .iter()
                    .map(|cell| cell.replace('|', "\\|"))
                    .collect::<Vec<_>>()
                    .join(" | ")
            )
        };
        let rule: Vec<String> = (0..self.header.len())
            .map(|i| {
                if self.numbers.contains(&i) {
                    "---:"
                } else {
                    "---"
                }
                .to_owned()
            })
            .collect();
        line(&self.header)
            + &line(&rule)
            + &self.rows.iter().map(|row| line(row)).collect::<String>()
    }

    fn widths(&self) -> Vec<usize> {
        (0..self.header.len())
            .map(|i| {
                std::iter::once(&self.header)
                    .chain(&self.rows)
                    .filter_map(|row| row.get(i))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_wide_becomes_a_paragraph_a_row() {
        let mut table = Table::new(&["arm", "rps : direct", "why"], 1..2);
        let why = "a cell of many words that goes on below".to_owned();
        table.row(vec!["kmesh".into(), "1.9".into(), why]);
        table.row(vec!["direct".into(), String::new(), "no".into()]);
        assert_eq!(
            table.within(40),
            "kmesh\n  rps : direct  1.9\n  why a cell of many words that goes on\n    below\ndirect\n  why           no\n"
        );
        assert!(
            table
                .within(30)
                .lines()
                .all(|line| line.chars().count() <= 30)
        );
        assert!(table.within(100).starts_with("arm "));
    }

    #[test]
    fn both_forms_hold_the_same_cells() {
        let mut table = Table::new(&["arm", "rps"], 1..2);
        table.row(vec!["direct".into(), "160000".into()]);
        table.row(vec!["a|b".into(), "9".into()]);
        assert_eq!(
            table.text(),
            "arm        rps\n--------------\ndirect  160000\na|b          9\n"
        );
        assert_eq!(
            table.markdown(),
            "| arm | rps |\n| --- | ---: |\n| direct | 160000 |\n| a\\|b | 9 |\n"
        );
    }
}
