//! A reader over YAML that knows where it is and lets nothing pass unread.
//!
//! An object is read inside a closure. When the closure is done, every field that it neither took nor ignored by name is
//! refused: a field that this datapath does not know cannot be lost silently.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_yaml_ng::Value;

use crate::error::{ConfigError, Place};

/// The reason for refusing whatever the reader was not told about.
const UNKNOWN: &str = "not supported by this datapath";
/// Values longer than this are not repeated in messages.
const SHOWN_MAX: usize = 80;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Item<'v> {
    /// Where it stands.
    pub(crate) place: Place,
    value: &'v Value,
}

impl<'v> Item<'v> {
    /// The root of a document.
    pub(crate) fn root(origin: &str, value: &'v Value) -> Self {
        Self {
            place: Place::document(origin),
            value,
        }
    }

    /// The same value as a resource of its own: fields are named from here on, after the resource's kind and name.
    pub(crate) fn resource(&self, kind: &str) -> Self {
        let name = self.value.get("name").and_then(Value::as_str);
        Self {
            place: self.place.resource(kind, name.unwrap_or_default()),
            value: self.value,
        }
    }

    /// An error about this value; shows it if it is a scalar.
    pub(crate) fn refuse(&self, problem: &str) -> ConfigError {
        match shown(self.value) {
            Some(value) => self.place.refuse(format!("{value}: {problem}")),
            None => self.place.refuse(problem),
        }
    }

    /// Reads an object; see the module head.
    pub(crate) fn object<T>(
        &self,
        read: impl FnOnce(&mut Object<'v>) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        let Value::Mapping(mapping) = self.value else {
            return Err(self.refuse("expected an object"));
        };
        let mut rest = Vec::with_capacity(mapping.len());
        for (key, value) in mapping {
            let Value::String(key) = key else {
                return Err(self.place.refuse("has a field whose name is not a string"));
            };
            rest.push((key.as_str(), value));
        }
        let mut object = Object {
            place: self.place.clone(),
            rest,
        };
        let result = read(&mut object)?;
        match object.rest.first() {
            Some(&(name, value)) => Err(Item {
                place: object.place.field(name),
                value,
            }
            .refuse(UNKNOWN)),
            None => Ok(result),
        }
    }

    /// The elements of a list.
    pub(crate) fn list(&self) -> Result<Vec<Item<'v>>, ConfigError> {
        let Value::Sequence(values) = self.value else {
            return Err(self.refuse("expected a list"));
        };
        let item = |(i, value)| Item {
            place: self.place.item(i),
            value,
        };
        Ok(values.iter().enumerate().map(item).collect())
    }

    /// The only element of a list.
    pub(crate) fn only(&self) -> Result<Item<'v>, ConfigError> {
        let items = self.list()?;
        let count = items.len();
        let mut items = items.into_iter();
        match (items.next(), count) {
            (Some(item), 1) => Ok(item),
            _ => Err(self.place.refuse(format!(
                "has {count} entries: this datapath takes exactly 1"
            ))),
        }
    }

    /// A string.
    pub(crate) fn string(&self) -> Result<&'v str, ConfigError> {
        self.value
            .as_str()
            .ok_or_else(|| self.refuse("expected a string"))
    }

    /// The `@type` of a typed configuration, if it has one; reads nothing.
    pub(crate) fn kind(&self) -> Option<&'v str> {
        self.value.get("@type").and_then(Value::as_str)
    }

    /// A string that is not empty.
    pub(crate) fn text(&self) -> Result<&'v str, ConfigError> {
        match self.string()? {
            "" => Err(self.place.refuse("must not be empty")),
            text => Ok(text),
        }
    }

    /// A number.
    pub(crate) fn number(&self) -> Result<u32, ConfigError> {
        let number = self
            .value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| self.refuse("expected a number from 0 to 4294967295"))
    }

    /// A number that may be negative.
    pub(crate) fn integer(&self) -> Result<i64, ConfigError> {
        // Protobuf's JSON writes 64-bit numbers as strings.
        let number = match self.value {
            Value::String(text) => text.parse().ok(),
            value => value.as_i64(),
        };
        number.ok_or_else(|| self.refuse("expected a whole number of 64 bits"))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> Result<bool, ConfigError> {
        self.value
            .as_bool()
            .ok_or_else(|| self.refuse("expected true or false"))
    }

    /// A protobuf duration: seconds with up to nine decimals and `s`.
    pub(crate) fn duration(&self) -> Result<Duration, ConfigError> {
        let expected = || self.refuse("expected a duration such as 0.25s");
        let number = self.string()?.strip_suffix('s').ok_or_else(expected)?;
        let (seconds, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(seconds) || !digits(decimals) || decimals.len() > 9 {
            return Err(expected());
        }
        let nanos = format!("{decimals:0<9}").parse().map_err(|_| expected())?;
        Ok(Duration::new(
            seconds.parse().map_err(|_| expected())?,
            nanos,
        ))
    }

    /// An Envoy `Address` with an IP address and a numbered TCP port. IPv4-mapped addresses become IPv4.
    pub(crate) fn address(&self) -> Result<SocketAddr, ConfigError> {
        self.object(|address| {
            address.need("socket_address")?.object(|socket| {
                socket.allow("protocol", &["TCP"])?;
                let ip = socket.need("address")?;
                let ip: IpAddr = ip
                    .string()?
                    .parse()
                    .map_err(|_| ip.refuse("expected an IP address"))?;
                let port = socket.need("port_value")?;
                let number = u16::try_from(port.number()?)
                    .ok()
                    .filter(|number| *number != 0);
                let number =
                    number.ok_or_else(|| port.refuse("expected a port from 1 to 65535"))?;
                Ok(SocketAddr::new(ip.to_canonical(), number))
            })
        })
    }
}

/// An object whose fields are taken one by one.
#[derive(Debug)]
pub(crate) struct Object<'v> {
    /// Where it stands.
    pub(crate) place: Place,
    rest: Vec<(&'v str, &'v Value)>,
}

impl<'v> Object<'v> {
    /// Takes a field; `None` if it is absent or null, which mean the same in protobuf's JSON.
    pub(crate) fn take(&mut self, name: &str) -> Option<Item<'v>> {
        let at = self.rest.iter().position(|(key, _)| *key == name)?;
        let (_, value) = self.rest.remove(at);
        (!value.is_null()).then(|| Item {
            place: self.place.field(name),
            value,
        })
    }

    /// Whether every field has been taken.
    pub(crate) fn is_read(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes a field that must be there.
    pub(crate) fn need(&mut self, name: &str) -> Result<Item<'v>, ConfigError> {
        self.take(name)
            .ok_or_else(|| self.place.field(name).refuse("is missing"))
    }

    /// The elements of a list field; none if it is absent.
    pub(crate) fn items(&mut self, name: &str) -> Result<Vec<Item<'v>>, ConfigError> {
        self.take(name).map_or(Ok(Vec::new()), |list| list.list())
    }

    /// A string field; empty if it is absent.
    pub(crate) fn string(&mut self, name: &str) -> Result<&'v str, ConfigError> {
        self.take(name).map_or(Ok(""), |item| item.string())
    }

    /// Drops a field, because `_reason`.
    pub(crate) fn ignore(&mut self, name: &str, _reason: &'static str) {
        self.take(name);
    }

    /// Drops a list field that holds nothing.
    pub(crate) fn empty(&mut self, name: &str) -> Result<(), ConfigError> {
        match self.items(name)?.first() {
            Some(item) => Err(item.refuse(UNKNOWN)),
            None => Ok(()),
        }
    }

    /// Drops a boolean field that says what this datapath does anyway.
    pub(crate) fn fixed(&mut self, name: &str, only: bool) -> Result<(), ConfigError> {
        match self.take(name) {
            Some(item) if item.boolean()? != only => Err(item.refuse(UNKNOWN)),
            _ => Ok(()),
        }
    }

    /// Drops a duration field that switches a timeout off: this datapath has none.
    pub(crate) fn no_timeout(&mut self, name: &str) -> Result<(), ConfigError> {
        match self.take(name) {
            Some(item) if !item.duration()?.is_zero() => {
                Err(item.refuse("this datapath has no such timeout, only 0s"))
            }
            _ => Ok(()),
        }
    }

    /// Takes a duration field; `None` if it is absent or zero, which switches a timeout off.
    pub(crate) fn timeout(&mut self, name: &str) -> Result<Option<Duration>, ConfigError> {
        let duration = self.take(name).map(|item| item.duration()).transpose()?;
        Ok(duration.filter(|duration| !duration.is_zero()))
    }

    /// A number field.
    pub(crate) fn number_or(&mut self, name: &str, absent: u32) -> Result<u32, ConfigError> {
        self.take(name).map_or(Ok(absent), |item| item.number())
    }

    /// A boolean field; false if it is absent.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, ConfigError> {
        self.take(name).map_or(Ok(false), |item| item.boolean())
    }

    /// Takes an enumeration; the first of `known` if it is absent.
    pub(crate) fn choice(
        &mut self,
        name: &str,
        known: &[&'static str],
    ) -> Result<&'static str, ConfigError> {
        let Some(item) = self.take(name) else {
            return Ok(known.first().copied().unwrap_or_default());
        };
        let value = item.string()?;
        known
            .iter()
            .find(|choice| **choice == value)
            .copied()
            .ok_or_else(|| item.refuse(&format!("{UNKNOWN}, which knows {}", known.join(" and "))))
    }

    /// Drops an enumeration field whose known values all mean the same here.
    pub(crate) fn allow(&mut self, name: &str, known: &[&'static str]) -> Result<(), ConfigError> {
        self.choice(name, known).map(|_| ())
    }

    /// Takes the `@type` of a typed configuration, without the part before the slash.
    pub(crate) fn kind(&mut self) -> Result<(Item<'v>, &'v str), ConfigError> {
        let item = self.need("@type")?;
        let url = item.string()?;
        let name = url.rsplit_once('/').map_or(url, |(_, name)| name);
        Ok((item, name))
    }
}

fn shown(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => format!("{text:?}"),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => return None,
    };
    (text.len() <= SHOWN_MAX).then_some(text)
}
