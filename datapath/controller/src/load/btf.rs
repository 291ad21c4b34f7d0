//! Offsets of kernel struct members, from the running kernel's BTF (`/sys/kernel/btf/vmlinux`).
//!
//! The programs read fields of sockets that no helper exposes. Rust has no CO-RE relocations, so the loader
//! looks the offsets up and sets them as constants of the object. Format: `Documentation/bpf/btf.rst`.

use super::LoadError;

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;

struct Reader<'a> {
    bytes: &'a [u8],
    types: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let word = |at| u32_at(bytes, at);
        if u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) != 0xeb9f {
            return None;
        }
        let header = word(4)? as usize;
        let section = |at: usize| -> Option<&'a [u8]> {
            let start = header + word(at)? as usize;
            bytes.get(start..start + word(at + 4)? as usize)
        };
        Some(Self {
            bytes,
            types: section(8)?,
            strings: section(16)?,
        })
    }

    fn is_named(&self, name_at: u32, name: &str) -> bool {
        self.strings
            .get(name_at as usize..)
            .and_then(|text| text.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Byte offset of `member` in `struct name`, also of one in a nameless structure or union inside of it; bit fields have none.
    fn member_offset(&self, name: &str, member: &str) -> Option<u32> {
        let mut found = None;
        let mut bodies = Vec::new();
        self.each(|id, kind, count, name_at, body| {
            debug_assert_eq!(id as usize, bodies.len() + 1);
            bodies.push((kind, count, body));
            if kind == KIND_STRUCT && self.is_named(name_at, name) && found.is_none() {
                found = Some(id);
            }
        })?;
        self.member_of(&bodies, found?, member, 0)
    }

    /// The same in the type of that number. Nameless structures nest a few levels deep.
    fn member_of(
        &self,
        bodies: &[(u32, usize, usize)],
        id: u32,
        member: &str,
        depth: u32,
    ) -> Option<u32> {
        const DEEPEST: u32 = 8;
        let &(kind, count, body) = bodies.get((id as usize).checked_sub(1)?)?;
        if !matches!(kind, KIND_STRUCT | KIND_UNION) || depth == DEEPEST {
            return None;
        }
        (0..count).find_map(|i| {
            let entry = body + 12 * i;
            let (name_at, inner) = (u32_at(self.types, entry)?, u32_at(self.types, entry + 4)?);
            let bits = u32_at(self.types, entry + 8)? & 0x00ff_ffff;
            if bits % 8 != 0 {
                None
            } else if self.is_named(name_at, member) {
                Some(bits / 8)
            } else if self.is_named(name_at, "") {
                Some(bits / 8 + self.member_of(bodies, inner, member, depth + 1)?)
            } else {
                None
            }
        })
    }

    /// Calls `visit` with the number, kind, number of members, name and members' place of every type.
    fn each(&self, mut visit: impl FnMut(u32, u32, usize, u32, usize)) -> Option<()> {
        let mut at = 0;
        let mut id = 0;
        while at < self.types.len() {
            id += 1;
            let (name_at, info) = (u32_at(self.types, at)?, u32_at(self.types, at + 4)?);
            let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
            let body = at + 12;
            visit(id, kind, count, name_at, body);
            at = body
                + match kind {
                    KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                    KIND_ARRAY => 12,
                    KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * count,
                    KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
                    _ => 0,
                };
        }
        Some(())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Byte offset of `member` in `struct structure`, looked up in the bytes of `/sys/kernel/btf/vmlinux`.
///
/// # Errors
/// If `btf` is not BTF or the kernel's struct has no such member.
pub fn member_offset(
    btf: &[u8],
    structure: &'static str,
    member: &'static str,
) -> Result<u32, LoadError> {
    Reader::new(btf)
        .ok_or(LoadError::NotBtf { bytes: btf.len() })?
        .member_offset(structure, member)
        .ok_or(LoadError::NoMember { structure, member })
}

/// Offsets in the structures behind a socket, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `tcp_sock.rcv_nxt`: next byte expected from the peer.
    pub rcv_nxt: u32,
    /// `tcp_sock.copied_seq`: next byte the application will read.
    pub copied_seq: u32,
    /// `tcp_sock.bytes_received`: bytes that arrived in all.
    pub bytes_received: u32,
    /// `sk_buff.cb`: where TCP has its `struct tcp_skb_cb`.
    pub control: u32,
    /// `tcp_skb_cb.seq`: first byte of a buffer.
    pub seq: u32,
    /// `tcp_skb_cb.end_seq`: the byte after its last.
    pub end_seq: u32,
    /// `sk_buff.dev`: the device.
    pub device: u32,
    /// `sock.sk_user_data`: where a socket in a socket map has its `struct sk_psock`.
    pub user_data: u32,
    /// `sk_psock.ingress_skb.qlen`: buffers that were redirected to the socket and are not in its queue yet.
    pub backlog: u32,
    /// `sk_psock.ingress_msg`: the queue of what was redirected to the socket.
    pub ingress: u32,
}

impl Offsets {
    /// Looks the offsets up in BTF.
    ///
    /// # Errors
    /// If `btf` is not BTF or a field is missing.
    pub fn find(btf: &[u8]) -> Result<Self, LoadError> {
        let reader = Reader::new(btf).ok_or(LoadError::NotBtf { bytes: btf.len() })?;
        debug_assert!(reader.types.len() < reader.bytes.len());
        let offset = |structure, member| {
            reader
                .member_offset(structure, member)
                .ok_or(LoadError::NoMember { structure, member })
        };
        Ok(Self {
            rcv_nxt: offset("tcp_sock", "rcv_nxt")?,
            copied_seq: offset("tcp_sock", "copied_seq")?,
            bytes_received: offset("tcp_sock", "bytes_received")?,
            control: offset("sk_buff", "cb")?,
            seq: offset("tcp_skb_cb", "seq")?,
            end_seq: offset("tcp_skb_cb", "end_seq")?,
            device: offset("sk_buff", "dev")?,
            user_data: offset("sock", "sk_user_data")?,
            backlog: offset("sk_psock", "ingress_skb")? + offset("sk_buff_head", "qlen")?,
            ingress: offset("sk_psock", "ingress_msg")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_the_fields() {
        let Ok(btf) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            eprintln!("SKIP: this kernel has no BTF");
            return;
        };
        let offsets = Offsets::find(&btf).unwrap();
        assert_ne!(offsets.rcv_nxt, offsets.copied_seq);
        assert!(
            offsets.rcv_nxt < 8192 && offsets.bytes_received < 8192,
            "{offsets:?}"
        );
    }

    #[test]
    fn truncated_btf_is_refused() {
        assert!(Offsets::find(b"").is_err());
        assert!(Offsets::find(&[0x9f, 0xeb, 1, 0, 24, 0, 0, 0]).is_err());
    }
}
