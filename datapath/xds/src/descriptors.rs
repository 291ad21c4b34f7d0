//! The Envoy API as descriptors: what each field number means.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MessageDescriptor};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto,
};

/// All of Envoy's configuration and extension messages; see `descriptors/README.md` for where they come from.
static BYTES: &[u8] = include_bytes!("../descriptors/envoy.bin");

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool =
        DescriptorPool::decode(BYTES).expect("the descriptors were made by ci/descriptors.sh");
    for file in [
        typed_struct("udpa.type.v1"),
        typed_struct("xds.type.v3"),
        istio_alpn(),
    ] {
        pool.add_file_descriptor_proto(file)
            .expect("these files import nothing but google/protobuf/struct.proto");
    }
    pool
});

/// `TypedStruct`, how Istio writes extensions that Envoy's API does not define. Nothing imports its file, so it is not
/// among those that the descriptors were made from; it has had two fields ever since, and two packages.
fn typed_struct(package: &str) -> FileDescriptorProto {
    let fields = vec![
        field("type_url", 1, Label::Optional, Type::String, None),
        field(
            "value",
            2,
            Label::Optional,
            Type::Message,
            Some(".google.protobuf.Struct"),
        ),
    ];
    FileDescriptorProto {
        dependency: vec!["google/protobuf/struct.proto".to_owned()],
        message_type: vec![message_type("TypedStruct", fields)],
        ..file(package)
    }
}

/// Istio's ALPN filter, the one extension of its own that it writes as a message: in each connection manager.
fn istio_alpn() -> FileDescriptorProto {
    let package = "istio.envoy.config.filter.http.alpn.v2alpha1";
    let inner = |name: &str| format!(".{package}.FilterConfig.{name}");
    let values = ["HTTP10", "HTTP11", "HTTP2"]
        .iter()
        .zip(0..)
        .map(|(name, number)| EnumValueDescriptorProto {
            name: Some((*name).to_owned()),
            number: Some(number),
            ..Default::default()
        });
    let protocol = EnumDescriptorProto {
        name: Some("Protocol".to_owned()),
        value: values.collect(),
        ..Default::default()
    };
    let overridden = message_type(
        "AlpnOverride",
        vec![
            field(
                "upstream_protocol",
                1,
                Label::Optional,
                Type::Enum,
                Some(&inner("Protocol")),
            ),
            field("alpn_override", 2, Label::Repeated, Type::String, None),
        ],
    );
    let config = DescriptorProto {
        nested_type: vec![overridden],
        enum_type: vec![protocol],
        ..message_type(
            "FilterConfig",
            vec![field(
                "alpn_override",
                1,
                Label::Repeated,
                Type::Message,
                Some(&inner("AlpnOverride")),
            )],
        )
    };
    FileDescriptorProto {
        message_type: vec![config],
        ..file(package)
    }
}

fn file(package: &str) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(format!("kmesh/{package}.proto")),
        package: Some(package.to_owned()),
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    }
}

fn message_type(name: &str, field: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto {
        name: Some(name.to_owned()),
        field,
        ..Default::default()
    }
}

fn field(
    name: &str,
    number: i32,
    label: Label,
    of: Type,
    type_name: Option<&str>,
) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(label.into()),
        r#type: Some(of.into()),
        type_name: type_name.map(str::to_owned),
        ..Default::default()
    }
}

/// The descriptor of a message by its full name, such as `envoy.config.cluster.v3.Cluster`.
pub fn message(full_name: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(full_name)
}

/// The message's full name in a type URL: what follows the last `/`.
pub fn full_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}
