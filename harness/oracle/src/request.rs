//! A request as a judge sees it.

use std::fmt;

/// An HTTP/1.1 request without a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The value of `host`, with the port if one is sent.
    pub host: String,
    /// The request target in origin form: path and perhaps query.
    pub target: String,
    /// The other headers in order, values without white space around them.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// A GET request without further headers.
    pub fn get(host: &str, target: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            host: host.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
        }
    }

    /// What the client sees of a response's body: nothing if it asked with HEAD (RFC 9110 section 9.3.2).
    pub fn seen_of(&self, body: &str) -> String {
        if self.method == "HEAD" {
            String::new()
        } else {
            body.to_owned()
        }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The target without the query.
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    /// Reads a head in canonical form, as [`Request::to_bytes`] writes it.
    pub fn parse(head: &str) -> Option<Self> {
        let mut lines = head.strip_suffix("\r\n\r\n")?.split("\r\n");
        let first = lines.next()?.strip_suffix(" HTTP/1.1")?;
        let (method, target) = first.split_once(' ')?;
        let host = lines.next()?.strip_prefix("host: ")?;
        let bare = |value: &str| value == value.trim();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ")?;
            bare(value).then(|| (name.to_owned(), value.to_owned()))
        });
        if !bare(host) {
            return None;
        }
        Some(Self {
            method: method.to_owned(),
            host: host.to_owned(),
            target: target.to_owned(),
            headers: headers.collect::<Option<_>>()?,
        })
    }

    /// The head as it travels, in canonical form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nhost: {}\r\n",
            self.method, self.target, self.host
        );
        for (name, value) in &self.headers {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// On one line, for messages: `GET host/target header: value; ...`.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.method, self.host, self.target)?;
        for (i, (name, value)) in self.headers.iter().enumerate() {
            write!(f, "{} {name}: {value}", if i == 0 { "" } else { ";" })?;
        }
        Ok(())
    }
}
