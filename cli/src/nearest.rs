//! Did you mean?

use crate::exit::Failure;

/// How many names are offered.
const OFFERED: usize = 3;

/// The names that `typed` may have been meant for, nearest first: those at most a third of its letters away, or that contain it.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let far = (typed.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|name| {
            let distance = strsim::damerau_levenshtein(typed, name);
            let part = typed.len() > 2 && name.contains(typed);
            (distance <= far || part).then_some((distance, name))
        })
        .collect();
    near.sort_unstable();
    near.into_iter()
        .map(|(_, name)| name)
        .take(OFFERED)
        .collect()
}

/// A name that is none: `no KIND "typed"`, with the nearest names, or all of them where there are none near.
pub fn unknown<'a>(
    kind: &str,
    typed: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Failure {
    let near = nearest(typed, known.clone());
    let hint = if near.is_empty() {
        let all: Vec<&str> = known.into_iter().collect();
        format!("there are {}", all.join(", "))
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    Failure::usage(format!("no {kind} {typed:?}: {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARMS: [&str; 4] = ["direct", "direct-aa", "envoy-both", "kmesh"];

    #[test]
    fn a_typing_error_finds_its_name() {
        assert_eq!(nearest("kmsh", ARMS), ["kmesh"]);
        assert_eq!(nearest("envoy-bohT", ARMS), ["envoy-both"]);
        assert_eq!(nearest("direct", ARMS)[0], "direct");
        assert!(nearest("linkerd", ARMS).is_empty());
    }

    #[test]
    fn without_a_near_one_all_are_named() {
        let failure = unknown("arm", "linkerd", ARMS);
        assert_eq!(failure.code, crate::exit::USAGE);
        assert!(
            failure
                .message
                .contains("direct, direct-aa, envoy-both, kmesh")
        );
    }
}
