//! Protobuf messages as JSON trees, in the form of a static configuration file: field names as in the `.proto` files,
//! enums by name, durations as `1.5s`, wrappers as their value, `Any` as an object with `@type`.
//!
//! Nothing is dropped. A field that the descriptors don't know stands under `#NUMBER`, an `Any` of an unknown type has
//! its bytes under `value`; each is listed as [`Unread`] as well. Fields at their default that have no presence are
//! absent, as protobuf means them to be.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind as FieldKind, MapKey, MessageDescriptor,
    ReflectMessage as _, UnknownField, Value as Field,
};
use serde_json::{Map, Value, json};

use crate::descriptors;

/// How deep messages may nest, each `Any` and each level of a `Struct` counted: as deep as protobuf libraries go by default.
pub const DEPTH_MAX: usize = 100;

/// Something in a message that the descriptors don't know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Where: `filter_chains[0].filters[1].typed_config`; empty for the resource itself.
    pub path: String,
    /// What stands there.
    pub what: Unknown,
}

/// What the descriptors don't know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// A field of a message that is known.
    Field {
        /// The message's full name.
        message: String,
        /// The field's number.
        number: u32,
    },
    /// The type of an `Any`.
    Type {
        /// Its type URL.
        url: String,
    },
    /// A value of an enum that is known.
    EnumValue {
        /// The enum's full name.
        name: String,
        /// The value.
        number: i32,
    },
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        match &self.what {
            Unknown::Field { message, number } => {
                write!(f, "{message} has no field number {number}")
            }
            Unknown::Type { url } => write!(f, "type {url} is unknown"),
            Unknown::EnumValue { name, number } => write!(f, "{name} has no value {number}"),
        }
    }
}

/// Bytes that are no message of the type that they claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The type URL of the resource itself is unknown.
    #[error("type {0} is unknown")]
    Type(String),
    /// The bytes don't decode.
    #[error("{path}: is no {message}: {cause}")]
    Decode {
        /// Where, as in [`Unread::path`].
        path: String,
        /// Full name of the message that they should be.
        message: String,
        /// What the decoder said.
        cause: String,
    },
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("{path}: nests deeper than {DEPTH_MAX} messages")]
    Depth {
        /// Where, as in [`Unread::path`].
        path: String,
    },
}

/// Reads `bytes` as the message that `type_url` names: its tree, without `@type`, and what in it is unknown.
///
/// # Errors
/// [`TreeError`] if the type is unknown, or if something in it does not decode or nests too deep.
pub fn read(type_url: &str, bytes: &[u8]) -> Result<(Value, Vec<Unread>), TreeError> {
    let descriptor = descriptors::message(descriptors::full_name(type_url))
        .ok_or_else(|| TreeError::Type(type_url.to_owned()))?;
    let mut reader = Reader {
        path: String::new(),
        depth: 0,
        unread: Vec::new(),
    };
    let tree = reader.bytes(descriptor, bytes)?;
    Ok((tree, reader.unread))
}

/// Walks a message; knows where it is.
struct Reader {
    path: String,
    depth: usize,
    unread: Vec<Unread>,
}

impl Reader {
    fn bytes(&mut self, descriptor: MessageDescriptor, bytes: &[u8]) -> Result<Value, TreeError> {
        let full_name = descriptor.full_name().to_owned();
        let message =
            DynamicMessage::decode(descriptor, bytes).map_err(|error| TreeError::Decode {
                path: self.path.clone(),
                message: full_name,
                cause: error.to_string(),
            })?;
        self.message(&message)
    }

    fn message(&mut self, message: &DynamicMessage) -> Result<Value, TreeError> {
        if self.depth == DEPTH_MAX {
            return Err(TreeError::Depth {
                path: self.path.clone(),
            });
        }
        self.depth += 1;
        let tree = self.by_name(message);
        self.depth -= 1;
        tree
    }

    /// Messages whose JSON is not an object of their fields, then all others. A well-known type with unknown fields is
    /// written as an object, where they can stand.
    fn by_name(&mut self, message: &DynamicMessage) -> Result<Value, TreeError> {
        let descriptor = message.descriptor();
        if message.unknown_fields().next().is_some() {
            return self.object(message).map(Value::Object);
        }
        let number = |number| {
            message
                .get_field_by_number(number)
                .map(std::borrow::Cow::into_owned)
        };
        Ok(match descriptor.full_name() {
            "google.protobuf.Any" => return self.any(message),
            "google.protobuf.Duration" => duration(number(1), number(2)),
            "google.protobuf.Timestamp" => timestamp(number(1), number(2)),
            "google.protobuf.BoolValue"
            | "google.protobuf.Int32Value"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.FloatValue"
            | "google.protobuf.DoubleValue"
            | "google.protobuf.StringValue"
            | "google.protobuf.BytesValue" => {
                let field = descriptor.fields().next().expect("a wrapper has a value");
                return self.single(&field, &message.get_field(&field));
            }
            "google.protobuf.Struct" | "google.protobuf.ListValue" => {
                let field = descriptor
                    .fields()
                    .next()
                    .expect("a Struct has fields, a ListValue values");
                return self.field(&field, &message.get_field(&field));
            }
            "google.protobuf.Value" => {
                let Some((field, value)) = message.fields().next() else {
                    return Ok(Value::Null);
                };
                if field.name() == "null_value" {
                    return Ok(Value::Null);
                }
                return self.single(&field, value);
            }
            _ => return self.object(message).map(Value::Object),
        })
    }

    fn object(&mut self, message: &DynamicMessage) -> Result<Map<String, Value>, TreeError> {
        let mut object = Map::new();
        for (field, value) in message.fields() {
            let tree = self.within(field.name(), |reader| reader.field(&field, value))?;
            object.insert(field.name().to_owned(), tree);
        }
        for unknown in message.unknown_fields() {
            let what = Unknown::Field {
                message: message.descriptor().full_name().to_owned(),
                number: unknown.number(),
            };
            self.unread.push(Unread {
                path: self.path.clone(),
                what,
            });
            let values = object
                .entry(format!("#{}", unknown.number()))
                .or_insert_with(|| Value::Array(Vec::new()));
            values
                .as_array_mut()
                .expect("no field of a .proto file begins with #")
                .push(raw(unknown));
        }
        Ok(object)
    }

    fn any(&mut self, message: &DynamicMessage) -> Result<Value, TreeError> {
        let url = message
            .get_field_by_number(1)
            .expect("Any has a type_url")
            .into_owned();
        let bytes = message
            .get_field_by_number(2)
            .expect("Any has a value")
            .into_owned();
        let (Field::String(url), Field::Bytes(bytes)) = (url, bytes) else {
            unreachable!("an Any's fields are a string and bytes")
        };
        let Some(descriptor) = descriptors::message(descriptors::full_name(&url)) else {
            let tree = json!({ "@type": url, "value": BASE64.encode(&bytes) });
            self.unread.push(Unread {
                path: self.path.clone(),
                what: Unknown::Type { url },
            });
            return Ok(tree);
        };
        let mut object = match self.bytes(descriptor, &bytes)? {
            Value::Object(object) if !object.contains_key("@type") => object,
            // Messages whose own JSON is no object, and an Any in an Any.
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        object.insert("@type".to_owned(), Value::String(url));
        Ok(Value::Object(object))
    }

    fn field(&mut self, field: &FieldDescriptor, value: &Field) -> Result<Value, TreeError> {
        match value {
            Field::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    list.push(self.at(&format!("[{index}]"), |reader| reader.single(field, item))?);
                }
                Ok(Value::Array(list))
            }
            Field::Map(entries) => {
                let kind = field.kind();
                let entry = kind
                    .as_message()
                    .expect("a map's field is of an entry type");
                let of = entry.map_entry_value_field();
                let mut object = Map::new();
                for (key, value) in entries {
                    let key = key_text(key);
                    let tree =
                        self.at(&format!("[{key:?}]"), |reader| reader.single(&of, value))?;
                    object.insert(key, tree);
                }
                Ok(Value::Object(object))
            }
            single => self.single(field, single),
        }
    }

    fn single(&mut self, field: &FieldDescriptor, value: &Field) -> Result<Value, TreeError> {
        Ok(match value {
            Field::Bool(value) => json!(value),
            Field::I32(value) => json!(value),
            Field::I64(value) => json!(value),
            Field::U32(value) => json!(value),
            Field::U64(value) => json!(value),
            Field::F32(value) => float(f64::from(*value)),
            Field::F64(value) => float(*value),
            Field::String(value) => json!(value),
            Field::Bytes(value) => json!(BASE64.encode(value)),
            Field::EnumNumber(number) => self.enum_value(field, *number),
            Field::Message(message) => self.message(message)?,
            Field::List(_) | Field::Map(_) => unreachable!("neither stands within a list or a map"),
        })
    }

    fn enum_value(&mut self, field: &FieldDescriptor, number: i32) -> Value {
        let FieldKind::Enum(values) = field.kind() else {
            unreachable!("an enum's number is of an enum")
        };
        if let Some(value) = values.get_value(number) {
            return json!(value.name());
        }
        let what = Unknown::EnumValue {
            name: values.full_name().to_owned(),
            number,
        };
        self.unread.push(Unread {
            path: self.path.clone(),
            what,
        });
        json!(number)
    }

    fn within<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.at(&format!("{dot}{name}"), read)
    }

    fn at<T>(&mut self, step: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        self.path.push_str(step);
        let result = read(self);
        self.path.truncate(before);
        result
    }
}

/// A field that nobody knows: a number as a number, anything else as base64 of its wire form, tag included.
fn raw(field: &UnknownField) -> Value {
    let mut bytes = Vec::new();
    field.encode(&mut bytes);
    json!(BASE64.encode(bytes))
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// JSON has no infinities; protobuf's JSON writes them as text. Whole numbers are written as such.
fn float(value: f64) -> Value {
    if value.is_nan() {
        return json!("NaN");
    }
    if value.is_infinite() {
        return json!(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    // 2^53: up to here every whole number is a float.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return json!(value as i64);
    }
    json!(value)
}

fn parts(seconds: Option<Field>, nanos: Option<Field>) -> (i64, i32) {
    (
        seconds.and_then(|value| value.as_i64()).unwrap_or(0),
        nanos.and_then(|value| value.as_i32()).unwrap_or(0),
    )
}

/// `1.5s`; seconds and nanoseconds of different signs, which protobuf forbids, are written as they are: `1s-5ns`.
fn duration(seconds: Option<Field>, nanos: Option<Field>) -> Value {
    let (seconds, nanos) = parts(seconds, nanos);
    if nanos == 0 {
        return json!(format!("{seconds}s"));
    }
    if (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0) || nanos.abs() >= 1_000_000_000 {
        return json!(format!("{seconds}s{nanos}ns"));
    }
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let fraction = format!("{:09}", nanos.abs());
    json!(format!(
        "{sign}{}.{}s",
        seconds.unsigned_abs(),
        fraction.trim_end_matches('0')
    ))
}

/// Seconds since 1970, with nanoseconds: the datapath has no use for times, so nothing here knows a calendar.
fn timestamp(seconds: Option<Field>, nanos: Option<Field>) -> Value {
    let (seconds, nanos) = parts(seconds, nanos);
    json!({ "seconds": seconds, "nanos": nanos })
}
