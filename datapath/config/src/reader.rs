//! A reader over a tree of JSON that knows where it is, lets nothing pass unread, and goes on after a mistake.
//!
//! Nothing here returns an error: a wrong value is noted in [`Findings`] and read as its default, so one run finds every
//! mistake of a resource. Whoever reads throws the result away if anything was refused.
//!
//! A message is read inside a closure. When the closure is done, every field that it did not take is looked up in the table
//! of [`crate::inert`]: there it is counted with the reason, or it is refused. A field that this datapath does not know
//! cannot be lost silently.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::error::{ConfigError, Place};
use crate::inert::{self, Inert, Why};

/// The reason for refusing whatever the reader was not told about.
pub(crate) const UNKNOWN: &str = "not supported by this datapath";
/// Values longer than this are not repeated in messages.
const SHOWN_MAX: usize = 160;
/// The two names under which a message of any type may be wrapped, with its own type beside it.
const WRAPPERS: [&str; 2] = ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"];

/// What was found in a resource besides what is taken.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    refused: RefCell<Vec<ConfigError>>,
    inert: RefCell<Vec<Inert>>,
}

impl Findings {
    /// Notes a refusal.
    pub(crate) fn refuse(&self, error: ConfigError) {
        self.refused.borrow_mut().push(error);
    }

    /// Refusals and inert fields.
    pub(crate) fn into_parts(self) -> (Vec<ConfigError>, Vec<Inert>) {
        (self.refused.into_inner(), self.inert.into_inner())
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Item<'v> {
    /// Where it stands.
    pub(crate) place: Place,
    value: &'v Value,
    findings: &'v Findings,
    /// It stands for something that was refused already: nothing more is said about it.
    mute: bool,
}

impl<'v> Item<'v> {
    /// The root of a resource or document.
    pub(crate) fn root(place: Place, value: &'v Value, findings: &'v Findings) -> Self {
        Self {
            place,
            value,
            findings,
            mute: false,
        }
    }

    /// The value itself, unread.
    pub(crate) fn tree(&self) -> &'v Value {
        self.value
    }

    /// Notes that this value cannot be used; shows it if it is a scalar.
    pub(crate) fn refuse(&self, problem: impl Into<String>) {
        if !self.mute {
            self.findings
                .refuse(self.place.refuse_value(shown(self.value), problem));
        }
    }

    /// Notes a problem with this place, whatever its value.
    pub(crate) fn refuse_place(&self, problem: impl Into<String>) {
        if !self.mute {
            self.findings.refuse(self.place.refuse(problem));
        }
    }

    /// Reads a message of this type, by the name that the table of inert fields has for it; see the module head.
    pub(crate) fn message<T>(
        &self,
        message: &'static str,
        read: impl FnOnce(&mut Object<'v>) -> T,
    ) -> T {
        let mut mute = self.mute;
        let mut rest = Vec::new();
        if let Value::Object(fields) = self.value {
            rest.extend(fields.iter().map(|(key, value)| (key.as_str(), value)));
        } else {
            self.refuse("expected an object");
            mute = true;
        }
        let mut object = Object {
            place: self.place.clone(),
            message,
            rest,
            findings: self.findings,
            mute,
        };
        let result = read(&mut object);
        object.close();
        result
    }

    /// Reads a typed configuration: `read` gets its type's name, and its fields. What is wrapped is unwrapped.
    pub(crate) fn typed<T>(
        &self,
        message: &'static str,
        read: impl FnOnce(&str, &mut Object<'v>) -> T,
    ) -> T {
        let (kind, inner) = self.unwrapped();
        inner.message(message, |fields| {
            fields.take("@type");
            if kind.is_empty() && !fields.mute {
                Item {
                    place: inner.place.field("@type"),
                    ..inner.clone()
                }
                .refuse_place("is missing");
                fields.mute = true;
            }
            read(kind, fields)
        })
    }

    /// The type of a typed configuration, without the part before the slash; empty if it has none. Reads nothing.
    pub(crate) fn kind(&self) -> &'v str {
        self.unwrapped().0
    }

    /// A typed configuration's type, and its content.
    fn unwrapped(&self) -> (&'v str, Self) {
        let text = |name: &str| self.value.get(name).and_then(Value::as_str);
        let short = |url: &'v str| url.rsplit_once('/').map_or(url, |(_, name)| name);
        let kind = short(text("@type").unwrap_or_default());
        if !WRAPPERS.contains(&kind) {
            return (kind, self.clone());
        }
        let inner = text("type_url").or_else(|| text("typeUrl"));
        let content = Self {
            place: self.place.field("value"),
            value: self.value.get("value").unwrap_or(&EMPTY),
            ..self.clone()
        };
        (short(inner.unwrap_or_default()), content)
    }

    /// Refuses a typed configuration of a type that is not known here.
    pub(crate) fn refuse_type(&self, knows: &str) {
        let (kind, content) = self.unwrapped();
        let at = if kind.is_empty() || self.value.is_null() {
            self.clone()
        } else {
            Self {
                place: self.place.field("@type"),
                value: self.value.get("@type").unwrap_or(&EMPTY),
                ..content
            }
        };
        at.refuse(format!("{UNKNOWN}, {knows}"));
    }

    /// The elements of a list.
    pub(crate) fn list(&self) -> Vec<Item<'v>> {
        let Value::Array(values) = self.value else {
            self.refuse("expected a list");
            return Vec::new();
        };
        let item = |(i, value)| Item {
            place: self.place.item(i),
            value,
            ..self.clone()
        };
        values.iter().enumerate().map(item).collect()
    }

    /// The entries of a map, by key.
    pub(crate) fn entries(&self) -> Vec<(&'v str, Item<'v>)> {
        let Value::Object(fields) = self.value else {
            self.refuse("expected an object");
            return Vec::new();
        };
        let item = |(key, value): (&'v String, &'v Value)| {
            let place = self.place.field(key);
            (
                key.as_str(),
                Item {
                    place,
                    value,
                    ..self.clone()
                },
            )
        };
        fields.iter().map(item).collect()
    }

    fn expected<T: Default>(&self, what: &str, found: Option<T>) -> T {
        found.unwrap_or_else(|| {
            self.refuse(format!("expected {what}"));
            T::default()
        })
    }

    /// A string.
    pub(crate) fn string(&self) -> &'v str {
        self.expected("a string", self.value.as_str())
    }

    /// A string that is not empty.
    pub(crate) fn text(&self) -> &'v str {
        let text = self.string();
        if self.value.as_str() == Some("") {
            self.refuse_place("must not be empty");
        }
        text
    }

    /// A number; protobuf's JSON takes it as text, too.
    pub(crate) fn number(&self) -> u32 {
        let number = match self.value {
            Value::String(text) => text.parse().ok(),
            value => whole(value).and_then(|number| u32::try_from(number).ok()),
        };
        self.expected("a number from 0 to 4294967295", number)
    }

    /// A number that may be negative.
    pub(crate) fn integer(&self) -> i64 {
        let number = match self.value {
            Value::String(text) => text.parse().ok(),
            value => whole(value),
        };
        self.expected("a whole number of 64 bits", number)
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> bool {
        self.expected("true or false", self.value.as_bool())
    }

    /// A protobuf duration: seconds with up to nine decimals and `s`.
    pub(crate) fn duration(&self) -> Duration {
        self.expected(
            "a duration such as 0.25s",
            self.value.as_str().and_then(duration),
        )
    }

    /// An Envoy `SocketAddress` inside of an `Address`: the host as text, the port, and whether the rest of it says IPv4 too.
    pub(crate) fn socket_address(&self) -> (Item<'v>, u16) {
        self.message("Address", |address| {
            address
                .need("socket_address")
                .message("SocketAddress", |socket| {
                    socket.choice("protocol", &["TCP"]);
                    let host = socket.need("address");
                    let port = socket.need("port_value");
                    let number = port.number();
                    if number == 0 || number > u32::from(u16::MAX) {
                        port.refuse("expected a port from 1 to 65535");
                    }
                    if socket.flag("ipv4_compat")
                        && host.value.as_str().is_none_or(|ip| !ip.contains(':'))
                    {
                        host.refuse("is no IPv6 address, which ipv4_compat is for");
                    }
                    (host, number as u16)
                })
        })
    }

    /// An Envoy `Address` that is an IP address and a port; IPv4-mapped addresses become IPv4. Port 0 if it is none.
    pub(crate) fn ip_address(&self) -> SocketAddr {
        let (host, port) = self.socket_address();
        let ip = host.tree().as_str().and_then(|text| text.parse().ok());
        let Some(ip) = ip.map(|ip: IpAddr| ip.to_canonical()) else {
            host.refuse("expected an IP address");
            return SocketAddr::from(([0, 0, 0, 0], 0));
        };
        SocketAddr::new(ip, port)
    }
}

static EMPTY: Value = Value::Null;

/// A whole number; `1.0` is one in JSON.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
    })
}

fn duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (seconds, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(seconds) || !digits(decimals) || decimals.len() > 9 {
        return None;
    }
    let nanos = format!("{decimals:0<9}").parse().ok()?;
    Some(Duration::new(seconds.parse().ok()?, nanos))
}

/// A message whose fields are taken one by one.
#[derive(Debug)]
pub(crate) struct Object<'v> {
    /// Where it stands.
    pub(crate) place: Place,
    message: &'static str,
    rest: Vec<(&'v str, &'v Value)>,
    findings: &'v Findings,
    mute: bool,
}

impl<'v> Object<'v> {
    /// Takes a field by its protobuf name, written so or in camel case; `None` if it is absent or null, which mean the same
    /// in protobuf's JSON.
    pub(crate) fn take(&mut self, name: &str) -> Option<Item<'v>> {
        let at = self.rest.iter().position(|(key, _)| names(key, name))?;
        let (_, value) = self.rest.remove(at);
        (!value.is_null()).then(|| self.item(name, value))
    }

    fn item(&self, name: &str, value: &'v Value) -> Item<'v> {
        Item {
            place: self.place.field(name),
            value,
            findings: self.findings,
            mute: self.mute,
        }
    }

    /// Whether it is a message of this type.
    pub(crate) fn is(&self, message: &str) -> bool {
        self.message == message
    }

    /// Whether every field has been taken.
    pub(crate) fn is_read(&self) -> bool {
        self.rest.is_empty()
    }

    /// Notes a problem with this message as a whole.
    pub(crate) fn refuse(&self, problem: impl Into<String>) {
        if !self.mute {
            self.findings.refuse(self.place.refuse(problem));
        }
    }

    /// Takes a field that must be there.
    pub(crate) fn need(&mut self, name: &str) -> Item<'v> {
        self.take(name).unwrap_or_else(|| {
            let missing = self.item(name, &EMPTY);
            missing.refuse_place("is missing");
            Item {
                mute: true,
                ..missing
            }
        })
    }

    /// The elements of a list field; none if it is absent.
    pub(crate) fn items(&mut self, name: &str) -> Vec<Item<'v>> {
        self.take(name).map_or(Vec::new(), |list| list.list())
    }

    /// A string field; empty if it is absent.
    pub(crate) fn string(&mut self, name: &str) -> &'v str {
        self.take(name).map_or("", |item| item.string())
    }

    /// Takes a duration field; `None` if it is absent or zero, which switches a timeout off.
    pub(crate) fn timeout(&mut self, name: &str) -> Option<Duration> {
        let duration = self.take(name).map(|item| item.duration());
        duration.filter(|duration| !duration.is_zero())
    }

    /// A number field.
    pub(crate) fn number_or(&mut self, name: &str, absent: u32) -> u32 {
        self.take(name).map_or(absent, |item| item.number())
    }

    /// A boolean field; false if it is absent.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// A boolean field.
    pub(crate) fn flag_or(&mut self, name: &str, absent: bool) -> bool {
        self.take(name).map_or(absent, |item| item.boolean())
    }

    /// Takes an enumeration; the first of `known` if it is absent.
    pub(crate) fn choice(&mut self, name: &str, known: &[&'static str]) -> &'static str {
        let absent = known.first().copied().unwrap_or_default();
        let Some(item) = self.take(name) else {
            return absent;
        };
        let value = item.string();
        let found = known.iter().find(|choice| **choice == value);
        found.copied().unwrap_or_else(|| {
            if item.value.is_string() {
                item.refuse(format!("{UNKNOWN}, which knows {}", known.join(" and ")));
            }
            absent
        })
    }

    /// Counts a field as inert, if it is there: for what only the reader can tell. Everything else is in the table.
    pub(crate) fn inert(&mut self, name: &str, why: Why) {
        if self.take(name).is_some() {
            self.note(name, why);
        }
    }

    /// Counts a field that was taken as inert.
    pub(crate) fn note(&self, name: &str, why: Why) {
        if !self.mute {
            let field = self.place.field(name).field;
            self.findings.inert.borrow_mut().push(Inert { field, why });
        }
    }

    /// Leaves the rest of the message unread: what has been said about it is enough.
    pub(crate) fn skip(&mut self) {
        self.rest.clear();
    }

    /// What was not taken is inert by the table, or refused.
    fn close(self) {
        for (name, value) in &self.rest {
            if value.is_null() {
                continue;
            }
            let item = self.item(name, value);
            match inert::judge(self.message, name, value) {
                Ok(why) => self.note(name, why),
                Err(cause) => item.refuse(cause),
            }
        }
    }
}

/// Whether `key` is the field `name`, as protobuf's JSON writes it: as it is, or in camel case.
pub(crate) fn names(key: &str, name: &str) -> bool {
    if key == name {
        return true;
    }
    let mut camel = key.bytes();
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        let wanted = match byte {
            b'_' => match bytes.next() {
                Some(next) => next.to_ascii_uppercase(),
                None => return false,
            },
            byte => byte,
        };
        if camel.next() != Some(wanted) {
            return false;
        }
    }
    camel.next().is_none()
}

fn shown(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => format!("{text:?}"),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    (text.len() <= SHOWN_MAX).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn fields_go_by_both_of_their_names() {
        assert!(names("consecutive_5xx", "consecutive_5xx"));
        assert!(names("consecutive5xx", "consecutive_5xx"));
        assert!(names("httpFilters", "http_filters"));
        assert!(!names("HttpFilters", "http_filters"));
        assert!(!names("http_Filters", "http_filters"));
        assert!(!names("httpFilter", "http_filters"));
        assert!(!names("httpFiltersX", "http_filters"));
    }
}
