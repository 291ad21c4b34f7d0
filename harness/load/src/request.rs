//! The bytes of each request class, built once; sending one only writes its sequence number.

use std::io::Write as _;

use kmesh_origin::pattern;

use crate::plan::{BodyCheck, Plan, Protocol, Reuse, SeqCheck};

/// Hex digits of a sequence number on the wire.
pub const SEQ_DIGITS: usize = 16;

/// One class of requests, ready to be sent, and what its answer must be.
#[derive(Clone, Debug)]
pub struct Template {
    /// Name of the class.
    pub name: String,
    /// The whole request.
    pub bytes: Vec<u8>,
    /// Where the sequence number stands in `bytes`, and how many of its digits fit.
    pub seq: Option<(usize, usize)>,
    /// The request is `HEAD`.
    pub head_only: bool,
    /// Expected status.
    pub status: u16,
    /// Allowed servers; empty allows any.
    pub expect: Vec<String>,
    /// Expected response body, if it is checked.
    pub body: Option<Vec<u8>>,
    /// Hash of the request body, if there is one.
    pub body_hash: Option<u64>,
}

impl Template {
    /// One template per class of the plan, in order; one for TCP echo.
    pub fn all(plan: &Plan) -> Vec<Self> {
        match &plan.protocol {
            Protocol::Http => (0..plan.mix.len())
                .map(|class| Self::http(plan, class))
                .collect(),
            Protocol::TcpEcho {
                message_bytes,
                expect,
                ..
            } => {
                let bytes = pattern::bytes(*message_bytes as usize);
                vec![Self {
                    name: "tcp-echo".to_owned(),
                    seq: Some((0, SEQ_DIGITS.min(bytes.len()))),
                    bytes,
                    head_only: false,
                    status: 0,
                    expect: expect.clone(),
                    body: None,
                    body_hash: None,
                }]
            }
        }
    }

    fn http(plan: &Plan, class: usize) -> Self {
        let class = &plan.mix[class];
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            class.method, class.path, class.host
        );
        for (name, value) in &class.headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        if matches!(
            plan.reuse,
            Reuse::Short {
                close_header: true,
                ..
            }
        ) {
            text.push_str("Connection: close\r\n");
        }
        let mut seq = None;
        if plan.seq != SeqCheck::Off {
            text.push_str("x-request-seq: ");
            seq = Some((text.len(), SEQ_DIGITS));
            text.extend(["0".repeat(SEQ_DIGITS).as_str(), "\r\n"]);
        }
        let request_body = pattern::bytes(class.body_bytes as usize);
        if !request_body.is_empty() {
            text.extend(["Content-Length: ", &request_body.len().to_string(), "\r\n"]);
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&request_body);
        Self {
            name: class.name.clone(),
            bytes,
            seq,
            head_only: class.method == "HEAD",
            status: class.status,
            expect: class.expect.clone(),
            body: match class.body {
                BodyCheck::Any => None,
                BodyCheck::Echo => Some(request_body.clone()),
                BodyCheck::Pattern { bytes } => Some(pattern::bytes(bytes as usize)),
            },
            body_hash: (!request_body.is_empty()).then(|| pattern::fnv64(&request_body)),
        }
    }

    /// Writes a sequence number into the bytes.
    pub fn stamp(&mut self, digits: &[u8; SEQ_DIGITS]) {
        if let Some((at, len)) = self.seq {
            self.bytes[at..at + len].copy_from_slice(&digits[SEQ_DIGITS - len..]);
        }
    }
}

/// A sequence number as it is written.
pub fn seq_digits(seq: u64) -> [u8; SEQ_DIGITS] {
    let mut digits = [b'0'; SEQ_DIGITS];
    let mut rest = seq;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
    digits
}

/// Where the sequence numbers of this process start: two generators must not prove each other's answers.
pub fn first_seq() -> u64 {
    let mut start = Vec::new();
    let _ = write!(
        start,
        "{} {:?}",
        std::process::id(),
        std::time::SystemTime::now()
    );
    pattern::fnv64(&start) << 40
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::RequestClass;

    fn plan(class: RequestClass) -> Plan {
        Plan::closed(vec!["127.0.0.1:1".parse().unwrap()], 1, vec![class])
    }

    #[test]
    fn a_request_is_what_the_plan_says() {
        let class = RequestClass {
            method: "POST".to_owned(),
            headers: vec![("end-user".to_owned(), "jason".to_owned())],
            body_bytes: 20,
            body: BodyCheck::Echo,
            ..RequestClass::get("c", "h:1", "/p?q")
        };
        let plan = Plan {
            reuse: Reuse::Short {
                close_header: true,
                reset: false,
            },
            ..plan(class)
        };
        let mut template = Template::all(&plan).remove(0);
        template.stamp(&seq_digits(0xab));
        let text = "POST /p?q HTTP/1.1\r\nHost: h:1\r\nend-user: jason\r\nConnection: close\r\n\
                    x-request-seq: 00000000000000ab\r\nContent-Length: 20\r\n\r\n000000000000000\n0000";
        assert_eq!(String::from_utf8(template.bytes).unwrap(), text);
        assert_eq!(template.body.unwrap().len(), 20);
    }

    #[test]
    fn without_sequence_numbers_none_are_sent() {
        let template = Template::all(&Plan {
            seq: SeqCheck::Off,
            ..plan(RequestClass::get("c", "h", "/"))
        })
        .remove(0);
        assert_eq!(template.bytes, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }

    #[test]
    fn digits_are_hexadecimal() {
        assert_eq!(&seq_digits(0x1_2345_6789_abcd), b"000123456789abcd");
    }
}
