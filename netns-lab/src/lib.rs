//! Pods, services and links made of network namespaces.
