//! Errors in one line, each cause said once.

use clap::error::ErrorKind;

/// The chain of an error: outermost first, a cause left out when what stands before it already has its words.
pub fn of_error(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let words = one_line(&cause.to_string());
        if line.contains(&words) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&words);
    }
    line
}

/// What clap found and its tips, without its layout; `command` is the one that was typed, `kmesh-bench run`.
pub fn of_usage(error: &clap::Error, command: &str) -> String {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    ) {
        return format!("no command given; see {command} --help");
    }
    let text = error.render().to_string();
    let found: Vec<String> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .map(|line| match line.strip_prefix("tip: ") {
            Some(tip) => format!("({tip})"),
            None => line.strip_prefix("error: ").unwrap_or(line).to_owned(),
        })
        .collect();
    format!("{}; see {command} --help", found.join(" "))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};

    #[test]
    fn a_cause_is_said_once() {
        let error = Err::<(), _>(anyhow!("no such file"))
            .context("a.yaml: no such file")
            .context("the configuration\ncannot be read");
        assert_eq!(
            of_error(&error.unwrap_err()),
            "the configuration cannot be read: a.yaml: no such file"
        );
    }
}
