//! Decimal numbers in a range, as a regular expression.
//!
//! What Envoy takes for a number is what `absl::SimpleAtoi` does for `int64_t`: a sign, leading zeros, digits.

/// An expression that matches the decimal numbers from `start` up to and not including `end`; `None` if there are none.
pub(crate) fn expression(start: i64, end: i64) -> Option<String> {
    let last = end.checked_sub(1)?;
    let mut parts = Vec::new();
    if last >= 1 && start <= last {
        let numbers = between(start.max(1).unsigned_abs(), last.unsigned_abs());
        parts.push(format!("\\+?0*{numbers}"));
    }
    if start <= 0 && last >= 0 {
        parts.push("[+\\-]?0+".to_owned());
    }
    if start <= -1 && start <= last {
        let numbers = between(last.min(-1).unsigned_abs(), start.unsigned_abs());
        parts.push(format!("\\-0*{numbers}"));
    }
    (!parts.is_empty()).then(|| any_of(&parts))
}

fn any_of(parts: &[String]) -> String {
    format!("(?:{})", parts.join("|"))
}

/// The numbers from `low` to `high`, both included, without leading zeros.
fn between(low: u64, high: u64) -> String {
    let mut parts = Vec::new();
    let mut from = low;
    loop {
        // Up to the highest number with as many digits.
        let digits = from.to_string().len() as u32;
        let most = 10_u64
            .checked_pow(digits)
            .map_or(u64::MAX, |power| power - 1);
        let to = high.min(most);
        parts.push(alike(&from.to_string(), &to.to_string()));
        if to == high {
            return any_of(&parts);
        }
        from = to + 1;
    }
}

/// Numbers between two with the same number of digits.
fn alike(low: &str, high: &str) -> String {
    let (Some((a, low_rest)), Some((b, high_rest))) = (first(low), first(high)) else {
        return String::new();
    };
    if a == b {
        return format!("{a}{}", alike(low_rest, high_rest));
    }
    let rest = low_rest.len();
    if low.bytes().all(|digit| digit == b'0') && high.bytes().all(|digit| digit == b'9') {
        return format!("[0-9]{{{}}}", rest + 1);
    }
    let nines = "9".repeat(rest);
    let zeros = "0".repeat(rest);
    let mut parts = vec![format!("{a}{}", alike(low_rest, &nines))];
    if b - a > 1 {
        parts.push(format!("[{}-{}][0-9]{{{rest}}}", a + 1, b - 1));
    }
    parts.push(format!("{b}{}", alike(&zeros, high_rest)));
    any_of(&parts)
}

fn first(digits: &str) -> Option<(u8, &str)> {
    let digit = digits.bytes().next()? - b'0';
    Some((digit, &digits[1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_automata::meta::Regex;

    use super::expression;

    fn takes(start: i64, end: i64, text: &str) -> bool {
        let whole = expression(start, end).map(|e| Regex::new(&format!("^{e}$")).unwrap());
        whole.is_some_and(|whole| whole.is_match(text))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_number_matches_if_it_is_in_the_range(
            start in prop_oneof![-1100_i64..1100, any::<i64>()],
            width in prop_oneof![0_i64..2000, any::<i64>()],
            number in prop_oneof![-1200_i64..1200, any::<i64>()],
            near in -2_i64..3,
            prefix in prop_oneof![Just(""), Just("0"), Just("+"), Just("00")],
        ) {
            let end = start.saturating_add(width);
            let whole = expression(start, end).map(|e| Regex::new(&format!("^{e}$")).unwrap());
            let takes = |text: &str| whole.as_ref().is_some_and(|whole| whole.is_match(text));
            for number in [number, start.saturating_add(near), end.saturating_add(near)] {
                let text = if number < 0 { number.to_string() } else { format!("{prefix}{number}") };
                prop_assert_eq!(takes(&text), (start..end).contains(&number), "{} in {}..{}", text, start, end);
            }
        }
    }

    #[test]
    fn signs_and_zeros() {
        assert!(takes(i64::MIN, i64::MAX, "-9223372036854775808"));
        assert!(!takes(i64::MIN, i64::MAX, "-9223372036854775809"));
        assert!(!takes(0, i64::MAX, "9223372036854775807"));
        for text in ["0", "-0", "+0", "000"] {
            assert!(takes(0, 1, text), "{text}");
        }
        for text in ["", "+", "-", "+-0", "0x0", "0.0", "1"] {
            assert!(!takes(0, 1, text), "{text}");
        }
    }
}
