//! Classes of bytes, as one table: a lookup costs a load, whatever the class.

/// `tchar` of RFC 9110 section 5.6.2.
pub(crate) const TOKEN: u8 = 1;
/// What Envoy takes in a host; it answers 400 to anything else (`HeaderUtility::authorityIsValid`).
pub(crate) const AUTHORITY: u8 = 2;
/// What a request target is made of, besides the bytes that end its path and those that RFC 3986 has no place for: user space refuses
/// them, its library not being able to carry them, and an answer must not depend on who gives it.
pub(crate) const PLAIN_TARGET: u8 = 4;
/// What a header value is made of, besides white space.
pub(crate) const VISIBLE: u8 = 8;

/// What a header value is made of, white space included.
pub(crate) const PLAIN_VALUE: u8 = 16;

/// What a path in its normal form is made of, besides slashes and dots: all other bytes are escaped, or may have been escaped, in it.
pub(crate) const NORMAL: u8 = 32;

static CLASSES: [u8; 256] = classes();

/// Whether `byte` is in `class`.
#[inline(always)]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

const fn classes() -> [u8; 256] {
    const ALPHANUMERIC: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let table = add([0; 256], ALPHANUMERIC, TOKEN | AUTHORITY | NORMAL);
    let table = add(table, b"_~!$&'()*+,-:;=@", NORMAL);
    let table = add(table, b"!#$%&'*+-.^_`|~", TOKEN);
    let table = add(table, b" \t", PLAIN_VALUE);
    let mut table = add(table, b"!$%&'()*+,-.:;=@[]_~", AUTHORITY);
    let mut byte = 0x21;
    while byte < 256 {
        if byte != 0x7f {
            table[byte] |= VISIBLE | PLAIN_VALUE;
            if byte < 0x7f && !is_one_of(byte, b"#?\"<>`") {
                table[byte] |= PLAIN_TARGET;
            }
        }
        byte += 1;
    }
    table
}

const fn is_one_of(byte: usize, members: &[u8]) -> bool {
    let mut i = 0;
    while i < members.len() {
        if byte == members[i] as usize {
            return true;
        }
        i += 1;
    }
    false
}

const fn add(mut table: [u8; 256], members: &[u8], class: u8) -> [u8; 256] {
    let mut i = 0;
    while i < members.len() {
        table[members[i] as usize] |= class;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_in_its_classes() {
        // Made anew, not the table that the compiler made.
        let table = classes();
        for byte in 0..=u8::MAX {
            let class = table[byte as usize];
            assert_eq!(class, CLASSES[byte as usize]);
            let alphanumeric = byte.is_ascii_alphanumeric();
            let visible = byte > b' ' && byte != 0x7f;
            let told = [
                (TOKEN, alphanumeric || b"!#$%&'*+-.^_`|~".contains(&byte)),
                (
                    AUTHORITY,
                    alphanumeric || b"!$%&'()*+,-.:;=@[]_~".contains(&byte),
                ),
                (
                    PLAIN_TARGET,
                    visible && byte.is_ascii() && !b"#?\"<>`".contains(&byte),
                ),
                (VISIBLE, visible),
                (NORMAL, alphanumeric || b"_~!$&'()*+,-:;=@".contains(&byte)),
                (PLAIN_VALUE, visible || byte == b' ' || byte == b'\t'),
            ];
            for (one, member) in told {
                assert_eq!(class & one != 0, member, "{byte:#x} in class {one}");
            }
        }
    }
}
