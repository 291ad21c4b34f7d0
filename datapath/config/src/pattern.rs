//! Patterns on header values and paths, as regular expressions for one automaton.
//!
//! Envoy's regular expressions are RE2's. What is taken is what RE2 and the `regex` syntax provably read alike; the rest
//! is refused with the reason, because a pattern that means something else here would route to the wrong place.

use std::fmt::Write as _;

use crate::model::ValueMatch;
use crate::range;

/// Any bytes.
const ANY: &str = "(?s-u:.)*";
/// No bytes at all, not even none.
const NOTHING: &str = "[a&&b]";

/// A regular expression that matches exactly the values that `value` takes, or why there is none.
pub(crate) fn expression(value: &ValueMatch, ignore_case: bool) -> Result<String, String> {
    let literal = |text: &str| literal(text, ignore_case);
    Ok(match value {
        ValueMatch::Exact(text) => literal(text),
        ValueMatch::Prefix(text) => literal(text) + ANY,
        ValueMatch::Suffix(text) => ANY.to_owned() + &literal(text),
        ValueMatch::Contains(text) => ANY.to_owned() + &literal(text) + ANY,
        ValueMatch::Regex(text) => common(text)?,
        ValueMatch::Range { start, end } => {
            range::expression(*start, *end).unwrap_or_else(|| NOTHING.to_owned())
        }
        ValueMatch::Present => ANY.to_owned(),
    })
}

fn literal(text: &str, ignore_case: bool) -> String {
    let mut pattern = String::new();
    for byte in text.bytes() {
        // Writing to a string cannot fail.
        let _ = if ignore_case && byte.is_ascii_alphabetic() {
            let (upper, lower) = (byte.to_ascii_uppercase(), byte.to_ascii_lowercase());
            write!(pattern, "[{}{}]", upper as char, lower as char)
        } else {
            write!(pattern, "(?-u:\\x{byte:02x})")
        };
    }
    pattern
}

/// The expression with its classes of characters written out as RE2 understands them.
fn common(text: &str) -> Result<String, String> {
    let refuse = |what: &str| {
        Err(format!(
            "{what} in a regular expression: not supported by this datapath"
        ))
    };
    if text.bytes().any(|byte| !(0x20..0x7f).contains(&byte)) {
        return refuse("a character outside of printable ASCII");
    }
    let mut out = String::from("(?:");
    let mut class = false;
    let mut open = 0_u32;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let next = rest.peek().copied();
        match (c, next) {
            ('\\', Some(escaped)) => {
                rest.next();
                let (set, negated) = match escaped {
                    'd' => ("0-9", false),
                    'w' => ("0-9A-Za-z_", false),
                    's' => ("\\t\\n\\x0c\\r ", false),
                    'D' => ("0-9", true),
                    'W' => ("0-9A-Za-z_", true),
                    'S' => ("\\t\\n\\x0c\\r ", true),
                    c if c.is_ascii_punctuation() && c != '<' && c != '>' => {
                        out.push('\\');
                        out.push(c);
                        continue;
                    }
                    other => return refuse(&format!("\\{other}")),
                };
                match (class, negated) {
                    (true, true) => return refuse(&format!("[\\{escaped}]")),
                    (true, false) => out.push_str(set),
                    (false, true) => out.extend(["[^", set, "]"]),
                    (false, false) => out.extend(["[", set, "]"]),
                }
            }
            ('[', _) if class => return refuse("[ in a class"),
            ('[', _) => {
                class = true;
                out.push('[');
                if next == Some('^') {
                    rest.next();
                    out.push('^');
                }
                if matches!(rest.peek(), Some(']' | '-')) {
                    return refuse("] or - at the start of a class");
                }
            }
            (']', _) if class => {
                class = false;
                out.push(']');
            }
            ('&' | '~' | '-', Some(same)) if class && same == c => {
                return refuse("a set operation");
            }
            ('\\', None) => return refuse("a backslash at the end"),
            (')', _) if !class => {
                let Some(less) = open.checked_sub(1) else {
                    return refuse(") without (");
                };
                open = less;
                out.push(')');
            }
            ('(', Some('?')) if !class => {
                open += 1;
                rest.next();
                if rest.peek() != Some(&':') {
                    return refuse("(? without :");
                }
                out.push_str("(?");
            }
            ('(', _) if !class => {
                open += 1;
                out.push('(');
            }
            ('{', Some(digit)) if !class && !digit.is_ascii_digit() => {
                return refuse("{ without a number");
            }
            ('*' | '+' | '?' | '}', Some('*' | '+' | '{')) if !class => {
                return refuse("a repetition of a repetition");
            }
            (c, _) => out.push(c),
        }
    }
    if class {
        return refuse("a class without end");
    }
    if open > 0 {
        return refuse("( without )");
    }
    out.push(')');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_two_syntaxes_read_differently_is_refused() {
        for text in [
            "\\bx", "\\pL", "\\x41", "(?i)x", "(?P<a>x)", "[a[b]", "[]a]", "[-a]", "[a&&b]",
            "[a--b]", "[a~~b]", "[\\D]", "x{,3}", "a**", "a+*", "\u{e9}", "[a", "a\\",
        ] {
            assert!(common(text).is_err(), "{text}: {:?}", common(text));
        }
        assert_eq!(
            common("\\d+[^\\w.]").as_deref(),
            Ok("(?:[0-9]+[^0-9A-Za-z_.])")
        );
    }

    /// An alternative stays inside of the expression, and a parenthesis cannot close it.
    #[test]
    fn expressions_are_closed() {
        assert_eq!(common("a|b").as_deref(), Ok("(?:a|b)"));
        assert!(common("a)(?:b").is_err());
        assert!(common("(a").is_err());
    }
}
