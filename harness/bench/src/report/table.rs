//! Tables, for a terminal and for Markdown, from the same cells.

use std::ops::Range;

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

    /// For a terminal: columns padded, two spaces apart, a rule under the header.
    pub fn text(&self) -> String {
        let widths = self.widths();
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
