//! fortio's echo query grammar: what a request asks the server to do.
//!
//! | key | value | meaning |
//! |---|---|---|
//! | `delay` | `5ms` or `150us:10,2ms:5` | hold the answer that long; lists are percentages, the rest is no delay |
//! | `status` | `503` or `404:10,503:5` | status code; the rest is 200, a list that does not parse is 400 |
//! | `size` | `1024` or `1024:10,512:5` | generated body of that size; the rest echoes the request body |
//! | `close` | `true` or `5.3` | close the connection afterwards, always or for that percentage |
//! | `header` | `Key:Value` | add a response header; may be repeated |
//!
//! Lists are cumulative: one number is drawn from 0 to 100 and the first entry whose sum reaches it is
//! taken, as in fortio's `generateStatus`, `generateSize` and `generateDelay`. A list that does not
//! parse is ignored (but for `status`), also as there.

use std::time::Duration;

use rand::Rng;

/// Longest delay; longer ones are cut to it (fortio's `-max-echo-delay` default).
pub const MAX_DELAY: Duration = Duration::from_millis(1500);
/// Largest generated body in bytes; larger ones are cut to it.
pub const MAX_SIZE: usize = 16 << 20;

/// A parsed query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Echo {
    delay: Choice<Duration>,
    status: Choice<u16>,
    size: Choice<usize>,
    close_percent: f32,
    /// Response headers, valid names and values only.
    pub headers: Vec<(String, String)>,
}

/// What one request gets, after the dice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Time to hold the answer.
    pub delay: Duration,
    /// Status code of the answer.
    pub status: u16,
    /// Size of a generated body; `None` echoes the request.
    pub size: Option<usize>,
    /// Whether the connection ends after this answer.
    pub close: bool,
}

impl Echo {
    /// Parses the part of a request target after `?`.
    pub fn parse(query: &str) -> Self {
        let mut echo = Self::default();
        let mut seen = [false; 4];
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode(value);
            // The first value of a key counts, as with Go's `Values.Get`.
            let mut first = |index: usize| !std::mem::replace(&mut seen[index], true);
            match key {
                "delay" if first(0) => {
                    echo.delay = Choice::parse(&value, parse_go_duration).unwrap_or_default();
                }
                "status" if first(1) && !value.is_empty() => {
                    echo.status =
                        Choice::parse(&value, parse_status).unwrap_or(Choice::always(400));
                }
                "size" if first(2) => {
                    echo.size = Choice::parse(&value, parse_size).unwrap_or_default();
                }

                "close" if first(3) => {
                    echo.close_percent = match value.as_str() {
                        "" | "false" => 0.0,
                        number => number.parse().unwrap_or(100.0),
                    };
                }
                "header" => echo.headers.extend(parse_header(&value)),
                _ => {}
            }
        }
        echo
    }

    /// Draws what the next request gets.
    pub fn roll(&self, rng: &mut impl Rng) -> Outcome {
        Outcome {
            delay: self.delay.pick(rng).unwrap_or_default(),
            status: self.status.pick(rng).unwrap_or(200),
            size: self.size.pick(rng),
            close: self.close_percent > 0.0 && rng.random_range(0.0..100.0) <= self.close_percent,
        }
    }
}

/// A value, or a list of values with percentages.
#[derive(Clone, Debug, PartialEq)]
struct Choice<T> {
    /// Cumulative percentage and value.
    entries: Vec<(f32, T)>,
}

impl<T> Default for Choice<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
        }
    }
}

impl<T: Copy> Choice<T> {
    fn always(value: T) -> Self {
        Self {
            entries: vec![(100.0, value)],
        }
    }

    fn parse(text: &str, value: impl Fn(&str) -> Option<T>) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        if !text.contains([':', ',']) {
            return value(text).map(Self::always);
        }
        let mut sum = 0.0_f64;
        let mut entries = Vec::new();
        for entry in text.split(',') {
            let (what, percent) = entry.split_once(':')?;
            let percent: f64 = percent.strip_suffix('%').unwrap_or(percent).parse().ok()?;
            if !(0.0..=100.0).contains(&percent) {
                return None;
            }
            sum += percent;
            // Rounded so that parts of "exactly 100" do not add up to a little more.
            let rounded = (sum * 1e4).round() / 1e4;
            if rounded > 100.0 {
                return None;
            }
            entries.push((rounded as f32, value(what)?));
        }
        Some(Self { entries })
    }

    fn pick(&self, rng: &mut impl Rng) -> Option<T> {
        match self.entries.as_slice() {
            [] => None,
            [(percent, value)] if *percent >= 100.0 => Some(*value),
            entries => {
                let roll: f32 = rng.random_range(0.0..100.0);
                entries
                    .iter()
                    .find(|(upto, _)| roll <= *upto)
                    .map(|(_, value)| *value)
            }
        }
    }
}

fn parse_status(text: &str) -> Option<u16> {
    // 1xx cannot be final and would break the framing of what follows.
    text.parse()
        .ok()
        .filter(|status| (200..=599).contains(status))
}

fn parse_size(text: &str) -> Option<usize> {
    let size: i64 = text.parse().ok()?;
    Some(usize::try_from(size).unwrap_or(0).min(MAX_SIZE))
}

/// Go's duration syntax: a sequence of decimal numbers with units (`1.5s`, `1m30s`, `150us`), or `0`.
/// Cut to [`MAX_DELAY`]; negative durations are no delay.
fn parse_go_duration(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit_len] {
                "ns" => 1e-9,
                "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit_len..];
    }
    if negative {
        return Some(Duration::ZERO);
    }
    Some(Duration::from_secs_f64(
        seconds.min(MAX_DELAY.as_secs_f64()),
    ))
}

/// `Key:Value`; nothing for what would break the response (bad name, framing header).
fn parse_header(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once(':')?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let framing = ["content-length", "transfer-encoding", "connection"];
    if name.is_empty()
        || !name.bytes().all(token)
        || framing.iter().any(|f| name.eq_ignore_ascii_case(f))
    {
        return None;
    }
    let value = value
        .trim()
        .chars()
        .map(|c| if c.is_ascii_control() { ' ' } else { c })
        .collect();
    Some((name.to_owned(), value))
}

/// `%XX` and `+`; what is not valid stays as it is.
fn percent_decode(text: &str) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|b| (*b as char).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => {
                if let (Some(high), Some(low)) = (hex(at + 1), hex(at + 2)) {
                    out.push((high * 16 + low) as u8);
                    at += 2;
                } else {
                    out.push(b'%');
                }
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn roll(query: &str) -> Outcome {
        Echo::parse(query).roll(&mut SmallRng::seed_from_u64(1))
    }

    #[test]
    fn single_values_always_apply() {
        let outcome = roll("delay=1.5ms&status=503&size=1024&close=true");
        let want = Outcome {
            delay: Duration::from_micros(1500),
            status: 503,
            size: Some(1024),
            close: true,
        };
        assert_eq!(outcome, want);
        assert_eq!(
            roll(""),
            Outcome {
                delay: Duration::ZERO,
                status: 200,
                size: None,
                close: false
            }
        );
    }

    #[test]
    fn lists_follow_their_percentages() {
        let echo = Echo::parse(
            "status=404:10,503:5&size=1024:25,512:25&delay=150us:10,2ms:5%25&close=5.3",
        );
        let mut rng = SmallRng::seed_from_u64(7);
        let n = 100_000;
        let outcomes: Vec<Outcome> = (0..n).map(|_| echo.roll(&mut rng)).collect();
        let share = |test: &dyn Fn(&Outcome) -> bool| {
            outcomes.iter().filter(|o| test(o)).count() as f64 / f64::from(n)
        };
        let near =
            |got: f64, want: f64| assert!((got - want).abs() < 0.005, "{got} against {want}");
        near(share(&|o| o.status == 404), 0.10);
        near(share(&|o| o.status == 503), 0.05);
        near(share(&|o| o.status == 200), 0.85);
        near(share(&|o| o.size == Some(1024)), 0.25);
        near(share(&|o| o.size.is_none()), 0.50);
        near(share(&|o| o.delay == Duration::from_micros(150)), 0.10);
        near(share(&|o| o.delay == Duration::from_millis(2)), 0.05);
        near(share(&|o| o.close), 0.053);
    }

    #[test]
    fn a_bad_status_is_400_and_other_bad_lists_are_ignored() {
        for bad in [
            "abc",
            "404:60,503:50",
            "404,503",
            "404:x",
            "404:-1",
            "100",
            "42",
        ] {
            assert_eq!(roll(&format!("status={bad}")).status, 400, "{bad}");
        }
        assert_eq!(roll("size=1:60,2:50").size, None);
        assert_eq!(roll("delay=5parsecs").delay, Duration::ZERO);
        assert_eq!(roll("size=-5").size, Some(0));
        assert_eq!(roll("size=99999999999").size, Some(MAX_SIZE));
    }

    #[test]
    fn durations_are_gos() {
        let cases = [
            ("1s", Some(1_000_000)),
            ("1m", Some(1_500_000)),
            ("150us", Some(150)),
            ("150\u{b5}s", Some(150)),
            ("0.5ms", Some(500)),
            ("1ms500us", Some(1500)),
            ("0", Some(0)),
            ("-1s", Some(0)),
            ("5", None),
            ("", None),
            ("s", None),
            ("1x", None),
        ];
        for (text, micros) in cases {
            assert_eq!(
                parse_go_duration(text),
                micros.map(Duration::from_micros),
                "{text}"
            );
        }
    }

    #[test]
    fn headers_cannot_break_the_response() {
        let headers = Echo::parse("header=K:V&header=a%3Ab+c&header=x:1%0d%0aEvil:1&header=Content-Length:5&header=n%20o:1&header=z").headers;
        let want = [("K", "V"), ("a", "b c"), ("x", "1  Evil:1")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(headers, want);
    }
}
