//! Field lines (RFC 9112 section 5), of a head or of a trailer section.

use std::borrow::Cow;

use kmesh_api::limits::HEADERS_MAX;

use super::Rejection;

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::fallback) struct Field<'h> {
    /// Its name, a token.
    pub(in crate::fallback) name: &'h str,
    /// Its value as it was sent, without the white space around it.
    pub(in crate::fallback) raw: &'h [u8],
}

impl<'h> Field<'h> {
    /// Whether this is its name.
    pub(in crate::fallback) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Its value as Envoy understands it: on one line, whatever it was written on, and without bare CRs.
    pub(in crate::fallback) fn value(&self) -> Cow<'h, [u8]> {
        if !self.raw.contains(&b'\r') && !self.raw.contains(&b'\n') {
            return Cow::Borrowed(self.raw);
        }
        let mut value = self.raw.to_vec();
        value.retain(|byte| *byte != b'\r' && *byte != b'\n');
        Cow::Owned(value)
    }
}

/// Whether no byte stands there that may stand nowhere: control characters besides white space.
pub(in crate::fallback) fn is_clean(head: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && !b"\t\r\n".contains(byte);
    !head.iter().any(is_control)
}

/// The offset behind the blank line that ends `bytes`, if it is there. `begun` is an offset at which a line begins and
/// before which no end is; it is moved along, so that bytes are looked at once however they come.
pub(in crate::fallback) fn end(bytes: &[u8], begun: &mut usize) -> Option<usize> {
    while let Some(length) = bytes[*begun..].iter().position(|byte| *byte == b'\n') {
        let line = &bytes[*begun..=*begun + length];
        *begun += length + 1;
        if matches!(line, b"\n" | b"\r\n") {
            return Some(*begun);
        }
    }
    None
}

/// Takes lines apart; `block` ends with the blank line, and [`is_clean`].
///
/// # Errors
/// 400 for lines that are none, 431 for too many.
pub(in crate::fallback) fn parse(block: &[u8]) -> Result<Vec<Field<'_>>, Rejection> {
    let mut fields = Vec::new();
    let mut rest = block;
    while !matches!(rest, b"" | b"\n" | b"\r\n") {
        let (line, after) = rest.split_at(logical_line(rest));
        rest = after;
        fields.push(field(line)?);
    }
    if fields.len() > HEADERS_MAX as usize {
        return Err(Rejection::TOO_LARGE);
    }
    Ok(fields)
}

/// Where a line and the lines that continue it (`obs-fold`) end.
fn logical_line(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(feed) = bytes[end..].iter().position(|byte| *byte == b'\n') {
        end += feed + 1;
        if !matches!(bytes.get(end), Some(b' ' | b'\t')) {
            return end;
        }
    }
    bytes.len()
}

fn field(line: &[u8]) -> Result<Field<'_>, Rejection> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.ok_or(Rejection::MALFORMED)?);
    let sound = !name.is_empty() && name.iter().all(|byte| is_token(*byte));
    let name = str::from_utf8(name).ok().filter(|_| sound);
    Ok(Field {
        name: name.ok_or(Rejection::MALFORMED)?,
        raw: value[1..].trim_ascii(),
    })
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(block: &str) -> Result<Vec<(String, String)>, Rejection> {
        let text = |value: Cow<'_, [u8]>| String::from_utf8(value.into_owned()).unwrap();
        let fields = parse(block.as_bytes())?;
        Ok(fields
            .iter()
            .map(|field| (field.name.to_owned(), text(field.value())))
            .collect())
    }

    fn one(value: &str) -> Vec<(String, String)> {
        vec![("a".to_owned(), value.to_owned())]
    }

    #[test]
    fn values_are_joined_to_one_line() {
        assert_eq!(values("a: b\r\n\r\n"), Ok(one("b")));
        assert_eq!(values("a:b\n\n"), Ok(one("b")));
        assert_eq!(values("a: \t b \t\r\n\r\n"), Ok(one("b")));
        assert_eq!(values("a: b\rc\r\r\n\r\n"), Ok(one("bc")));
        assert_eq!(values("a:\r\n b\r\n\r\n"), Ok(one("b")));
        assert_eq!(values("a: b\r\n \t c\r\n\t\r\n\r\n"), Ok(one("b \t c")));
        assert_eq!(values("a: b\r\n c: d\r\n\r\n"), Ok(one("b c: d")));
        assert_eq!(values("\r\n"), Ok(Vec::new()));
    }

    #[test]
    fn lines_that_are_none_are_refused() {
        for block in [
            " a: b\r\n\r\n",
            "\ta: b\r\n\r\n",
            "a : b\r\n\r\n",
            "a\r\n : b\r\n\r\n",
            "a\rb: c\r\n\r\n",
            ": b\r\n\r\n",
            "ab\r\n\r\n",
            "a b: c\r\n\r\n",
            "a\u{e9}: c\r\n\r\n",
            "a: b\r\n\rc: d\r\n\r\n",
        ] {
            assert_eq!(values(block), Err(Rejection::MALFORMED), "{block:?}");
        }
        let many = |count| format!("{}\r\n", "a: b\r\n".repeat(count));
        assert_eq!(values(&many(100)).unwrap().len(), 100);
        assert_eq!(values(&many(101)), Err(Rejection::TOO_LARGE));
        assert!(is_clean(b"a: b\t\x80\r\n") && !is_clean(b"a\0") && !is_clean(b"\x7f"));
    }

    #[test]
    fn the_end_is_found_however_the_bytes_come() {
        for block in ["a: b\r\n\r\n", "a: b\n\n", "\n", "a: b\r\n\r\r\nc\n\r\n"] {
            for cut in 0..=block.len() {
                let mut begun = 0;
                let early = end(&block.as_bytes()[..cut], &mut begun);
                let found = early.or_else(|| end(block.as_bytes(), &mut begun));
                assert_eq!(found, Some(block.len()), "{block:?} at {cut}");
            }
        }
    }
}
