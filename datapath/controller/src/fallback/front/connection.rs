//! The Connection header: what becomes of the connection, and which fields end here (RFC 9110 section 7.6.1).
//!
//! Fields that it names are taken away before a route is chosen, as in Envoy: a client cannot have a request routed by a
//! header and withhold the header from the server.

use super::Rejection;
use super::fields::Field;

/// Envoy's limit of options that a client may name.
const OPTIONS_MAX: usize = 9;
/// Envoy's limit of a TE header that is named.
const TE_MAX: usize = 255;

/// What a request says of its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Connection {
    /// The client wants it closed after the answer.
    pub(super) close: bool,
    /// What the client wants to speak from here on.
    pub(super) upgrade: Option<String>,
    /// The fields that end here, in lower case.
    pub(super) named: Vec<String>,
}

/// All values of the fields of that name, in one list.
pub(super) fn joined(fields: &[Field<'_>], name: &str) -> Option<String> {
    let values: Vec<String> = (fields.iter().filter(|field| field.is(name)))
        .map(|field| String::from_utf8_lossy(&field.value()).into_owned())
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn options(list: &str) -> impl Iterator<Item = String> {
    let options = list.split(',').map(str::trim);
    options
        .filter(|option| !option.is_empty())
        .map(str::to_ascii_lowercase)
}

impl Connection {
    /// What these fields say.
    ///
    /// # Errors
    /// 400 for options that Envoy lets nobody name.
    pub(super) fn of(fields: &[Field<'_>]) -> Result<Self, Rejection> {
        let list = |name| joined(fields, name).unwrap_or_default();
        let mut named: Vec<String> = options(&list("connection")).collect();
        let says = |option: &str| named.iter().any(|named| named == option);
        let mut connection = Self {
            // Not a standard header, but http-parser knew it and so does Envoy.
            close: says("close") || options(&list("proxy-connection")).any(|o| o == "close"),
            ..Self::default()
        };
        let upgrade = joined(fields, "upgrade").filter(|_| says("upgrade"));
        let h2c = upgrade
            .as_ref()
            .is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("h2c"));
        if let Some(upgrade) = upgrade.filter(|_| !h2c) {
            connection.upgrade = Some(upgrade);
            return Ok(connection);
        }
        if h2c {
            // Envoy speaks HTTP/2 without having been asked, or not at all.
            named.retain(|option| !matches!(option.as_str(), "upgrade" | "http2-settings"));
            connection.named.push("http2-settings".to_owned());
        }
        if named.len() > OPTIONS_MAX {
            return Err(Rejection::MALFORMED);
        }
        for option in named {
            match option.as_str() {
                "close" | "keep-alive" | "upgrade" | "http2-settings" | "connection" => continue,
                "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto" => {
                    return Err(Rejection::MALFORMED);
                }
                "te" => {
                    let te = list("te");
                    if te.len() > TE_MAX {
                        return Err(Rejection::MALFORMED);
                    }
                    if wants_trailers(&te) {
                        continue;
                    }
                }
                pseudo if pseudo.starts_with(':') => return Err(Rejection::MALFORMED),
                _ => {}
            }
            connection.named.push(option);
        }
        Ok(connection)
    }

    /// Whether a field ends here.
    pub(super) fn ends(&self, field: &Field<'_>) -> bool {
        const OURS: [&str; 3] = ["connection", "proxy-connection", "upgrade"];
        OURS.iter().any(|name| field.is(name)) || self.named.iter().any(|name| field.is(name))
    }
}

fn wants_trailers(te: &str) -> bool {
    options(te).any(|coding| coding.split(';').next().map(str::trim) == Some("trailers"))
}

#[cfg(test)]
mod tests {
    use super::super::fields::parse;
    use super::*;

    fn of(block: &str) -> Result<Connection, Rejection> {
        Connection::of(&parse(block.as_bytes()).unwrap())
    }

    #[test]
    fn options_are_told_apart() {
        let closing = Connection {
            close: true,
            ..Connection::default()
        };
        assert_eq!(of("\r\n"), Ok(Connection::default()));
        assert_eq!(of("connection: keep-alive\r\n\r\n").unwrap().named.len(), 0);
        assert_eq!(
            of("connection: keep-alive\r\nconnection: Close\r\n\r\n"),
            Ok(closing.clone())
        );
        assert_eq!(of("proxy-connection: close\r\n\r\n"), Ok(closing));
        assert_eq!(
            of("connection: a, B\r\n\r\n").unwrap().named,
            ["a".to_owned(), "b".to_owned()]
        );
    }

    #[test]
    fn upgrades_need_both_headers_and_are_never_to_h2c() {
        let upgrade = |block| of(block).unwrap().upgrade;
        assert_eq!(
            upgrade("connection: a, Upgrade\r\nupgrade: WebSocket\r\n\r\n").as_deref(),
            Some("WebSocket")
        );
        assert_eq!(upgrade("upgrade: websocket\r\n\r\n"), None);
        assert_eq!(upgrade("connection: upgrade\r\n\r\n"), None);
        assert_eq!(
            upgrade("connection: upgrade, http2-settings\r\nupgrade: H2C\r\n\r\n"),
            None
        );
    }

    #[test]
    fn some_names_are_refused() {
        let named = |count: usize| {
            let names: Vec<String> = (0..count).map(|i| format!("a{i}")).collect();
            of(&format!("connection: {}\r\n\r\n", names.join(",,")))
        };
        assert!(named(9).is_ok());
        for refused in [
            named(10),
            of("connection: X-Forwarded-For\r\n\r\n"),
            of("connection: :path\r\n\r\n"),
            of(&format!(
                "connection: te\r\nte: {}\r\n\r\n",
                "a".repeat(256)
            )),
        ] {
            assert_eq!(refused, Err(Rejection::MALFORMED));
        }
        let te = |value| {
            let named = of(&format!("connection: te\r\nte: {value}\r\n\r\n"));
            named.unwrap().named.len()
        };
        assert_eq!((te("gzip"), te("gzip;q=1, Trailers;q=1")), (1, 0));
    }
}
