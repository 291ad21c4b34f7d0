//! Path rewrites, as Envoy does them: on the path without its query.

use std::borrow::Cow;

use kmesh_config::policy::{PathRewrite, RoutePolicy};
use regex::Regex;

/// A route's rewrite, ready to be used.
pub enum Rewrite {
    /// The first bytes are replaced.
    Prefix(usize, String),
    /// What matches is replaced; the text is in the expression's own notation.
    Regex(Regex, String),
}

impl Rewrite {
    /// The rewrite that `policy` asks for.
    ///
    /// # Errors
    /// If the expression is not one.
    pub fn of(policy: &RoutePolicy) -> Result<Option<Self>, regex::Error> {
        Ok(match &policy.path_rewrite {
            None => None,
            Some(PathRewrite::Prefix(matched, text)) => Some(Self::Prefix(*matched, text.clone())),
            Some(PathRewrite::Regex {
                pattern,
                substitution,
            }) => Some(Self::Regex(Regex::new(pattern)?, expand(substitution))),
        })
    }

    /// The target with its path rewritten.
    pub fn apply(&self, target: &str) -> String {
        let end = target.find(['?', '#']).unwrap_or(target.len());
        let (path, rest) = target.split_at(end);
        let path = match self {
            Self::Prefix(matched, text) => {
                let tail = path.get(*matched..).unwrap_or_default();
                Cow::Owned(format!("{text}{tail}"))
            }
            Self::Regex(regex, text) => regex.replace_all(path, text.as_str()),
        };
        format!("{path}{rest}")
    }
}

/// RE2's notation of groups (`\1`) in that of the `regex` crate (`${1}`).
fn expand(substitution: &str) -> String {
    let mut text = String::new();
    let mut escaped = false;
    for c in substitution.chars() {
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '$' => text.push_str("$$"),
            digit if escaped && digit.is_ascii_digit() => {
                text.push_str("${");
                text.push(digit);
                text.push('}');
            }
            other => text.push(other),
        }
        escaped = false;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(path_rewrite: PathRewrite, target: &str) -> String {
        let policy = RoutePolicy {
            path_rewrite: Some(path_rewrite),
            ..RoutePolicy::default()
        };
        Rewrite::of(&policy).unwrap().unwrap().apply(target)
    }

    #[test]
    fn prefixes_are_replaced_and_queries_stay() {
        let prefix = || PathRewrite::Prefix("/api/v1".len(), "/v2".to_owned());
        assert_eq!(
            rewritten(prefix(), "/api/v1/users?q=/api/v1"),
            "/v2/users?q=/api/v1"
        );
        assert_eq!(rewritten(prefix(), "/api/v1"), "/v2");
    }

    #[test]
    fn groups_are_written_as_in_re2() {
        let regex = |pattern: &str, substitution: &str| PathRewrite::Regex {
            pattern: pattern.to_owned(),
            substitution: substitution.to_owned(),
        };
        // The example of Envoy's documentation of `regex_rewrite`.
        let swap = regex("^/service/([^/]+)(/.*)$", "\\2/instance/\\1");
        assert_eq!(
            rewritten(swap, "/service/foo/v1/api?x"),
            "/v1/api/instance/foo?x"
        );
        assert_eq!(
            rewritten(regex("one", "two"), "/xxx/one/yyy/one/zzz"),
            "/xxx/two/yyy/two/zzz"
        );
        assert_eq!(rewritten(regex("a", "$1\\\\"), "/a"), "/$1\\");
    }
}
