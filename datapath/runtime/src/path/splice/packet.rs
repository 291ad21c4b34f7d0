//! The headers of a TCP packet: read once into scratch memory, changed there, and written back with their checksums.
//!
//! A changed word adds the difference to a ones' complement sum (RFC 1624), so neither the payload nor the rest of the header is read for the
//! checksum, and a packet whose checksum the device completes later (`CHECKSUM_PARTIAL`) is treated right by `bpf_l4_csum_replace`.
#![allow(
    clippy::cast_ptr_alignment,
    clippy::verbose_bit_mask,
    reason = "the buffer is aligned, and the mask says what is meant"
)]

use core::ops::{Deref, DerefMut};

use aya_ebpf::bindings::{__sk_buff, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::{bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_store_bytes};
use kmesh_api::Address;
use kmesh_api::address::MAPPED_BE;
use kmesh_api::splice::FlowKey;
use kmesh_orchestration::repeat::{Body, repeat};

use super::plan::Plan;
use super::work::Work;
use crate::maps::{PACKETS, PORTS};
use crate::probe_read::read;

/// Offset of `sk_buff.dev`, set by the loader.
#[unsafe(no_mangle)]
static SKB_DEV: u32 = 0;

/// Offset of the packet in [`Scratch::bytes`]: what follows the Ethernet header of 14 bytes is aligned then.
pub(super) const AT: u32 = 2;
const ETHERNET: u32 = 14;
pub(super) const IP_AT: u32 = AT + ETHERNET;
/// Longest headers: Ethernet, IPv4 with options, TCP with options.
const HEADERS_MAX: u32 = ETHERNET + 60 + 60;
/// Shortest: Ethernet, IPv4, TCP.
const HEADERS_MIN: u32 = ETHERNET + 20 + 20;
/// Keeps an offset inside of [`Scratch::bytes`], with room for a word behind it.
const MASK: u32 = 0xff;

/// `include/uapi/linux/tcp.h`, bits of byte 13.
pub(super) mod flag {
    /// No more bytes follow.
    pub(in crate::path::splice) const FIN: u32 = 1;
    /// The handshake.
    pub(in crate::path::splice) const SYN: u32 = 2;
    /// The connection is broken off.
    pub(in crate::path::splice) const RST: u32 = 4;
    /// The acknowledgement is valid.
    pub(in crate::path::splice) const ACK: u32 = 16;
    /// ECN-Echo (RFC 3168).
    pub(in crate::path::splice) const ECE: u32 = 64;
    /// Congestion window reduced.
    pub(in crate::path::splice) const CWR: u32 = 128;
}

/// What the TCP options of a packet say; in map memory, where the loop over them keeps its state.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Options {
    /// Where the loop stands, in [`Scratch::bytes`].
    at: u32,
    /// Where the options end.
    end: u32,
    /// Where the timestamp stands, its echo 4 bytes behind; 0 = there is none.
    pub time_at: u32,
    /// Where the first block of a selective acknowledgement stands; 0 = there is none.
    pub blocks_at: u32,
    /// Bytes of blocks.
    pub blocks: u32,
    /// Maximum segment size of a SYN; 0 = not said.
    pub segment: u32,
    /// Window shift of a SYN.
    pub scale: u32,
    /// 1: a SYN offers window scaling.
    pub scales: u32,
    /// 1: a SYN permits selective acknowledgements.
    pub selective: u32,
    reserved: u32,
}

/// Scratch memory of a packet's programs, which run with soft interrupts off and so one at a time on a CPU.
#[repr(C, align(8))]
pub struct Scratch {
    pub(super) bytes: [u8; 512],
    /// What the options say.
    pub options: Options,
    /// What becomes of the headers.
    pub plan: Plan,
    /// What becomes of those of a copy that goes first.
    pub copy: Plan,
    /// 1: there is one.
    pub copies: u32,
    /// The connection as the pod's device sees it.
    pub key: FlowKey,
    /// The TCP header's offset in `bytes`.
    pub(super) tcp: u32,
    /// 1: IPv6.
    pub(super) v6: u32,
    /// Length of all headers, from the first byte of the packet.
    pub headers: u32,
    /// Bytes of payload.
    pub length: u32,
    /// The differences that the pseudo header's words make to the checksum.
    pub(super) addresses: u64,
    /// The differences that the TCP header's words make to it.
    pub(super) header: u64,
    /// The difference that a new length makes to the IPv4 header's checksum.
    pub(super) shorter: u64,
    /// The difference that it makes to the pseudo header's.
    pub(super) segment: u64,
    /// The sum of what is cut off.
    pub(super) removed: u64,
    /// What [`super::request`] knows of the packet.
    pub work: Work,
}

/// A TCP packet. What is known of it stands in scratch memory: a program's stack has 512 bytes.
#[derive(Clone, Copy)]
pub(super) struct Packet {
    skb: *mut __sk_buff,
    scratch: *mut Scratch,
}

impl Deref for Packet {
    type Target = Scratch;

    #[inline(always)]
    fn deref(&self) -> &Scratch {
        // SAFETY: a live per-CPU value that nobody else uses meanwhile (see `Scratch`).
        unsafe { &*self.scratch }
    }
}

impl DerefMut for Packet {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Scratch {
        // SAFETY: as above.
        unsafe { &mut *self.scratch }
    }
}

impl Packet {
    /// The packet that [`Self::read`] has read.
    #[inline(always)]
    pub(super) fn again(skb: *mut __sk_buff) -> Option<Self> {
        Some(Self {
            skb,
            scratch: PACKETS.get_ptr_mut(0)?,
        })
    }

    /// Reads the headers; none if this is not TCP over IP, or a fragment. `leaves` says from which side it comes to the device.
    #[inline(always)]
    pub(super) fn read(skb: *mut __sk_buff, leaves: bool) -> Option<Self> {
        let mut packet = Self::again(skb)?;
        // SAFETY: the kernel hands a valid context.
        let whole = unsafe { (*skb).len };
        let mut wanted = whole;
        if wanted < HEADERS_MIN {
            return None;
        }
        if wanted > HEADERS_MAX {
            wanted = HEADERS_MAX;
        }
        // SAFETY: the buffer has room for HEADERS_MAX bytes behind AT.
        let failed = unsafe {
            let to = packet.bytes.as_mut_ptr().add(AT as usize);
            bpf_skb_load_bytes(skb.cast(), 0, to.cast(), wanted)
        };
        if failed != 0 {
            return None;
        }
        packet.addresses = 0;
        packet.header = 0;
        packet.shorter = 0;
        packet.segment = 0;
        packet.copies = 0;
        packet.plan.clear = 0;
        packet.plan.has_ethernet = 0;
        let kind = packet.byte(AT + 12) << 8 | packet.byte(AT + 13);
        let (tcp, v6, end) = match kind {
            0x0800 => {
                let first = packet.byte(IP_AT);
                // A fragment has an offset or announces more (RFC 791).
                let fragment = (packet.byte(IP_AT + 6) & 0x3f) | packet.byte(IP_AT + 7);
                if packet.byte(IP_AT + 9) != 6 || fragment != 0 {
                    return None;
                }
                let total = packet.byte(IP_AT + 2) << 8 | packet.byte(IP_AT + 3);
                let end = if total == 0 { whole } else { ETHERNET + total };
                (IP_AT + (first & 15) * 4, 0, end)
            }
            0x86dd => {
                if packet.byte(IP_AT + 6) != 6 {
                    return None;
                }
                let total = packet.byte(IP_AT + 4) << 8 | packet.byte(IP_AT + 5);
                let end = if total == 0 {
                    whole
                } else {
                    ETHERNET + 40 + total
                };
                (IP_AT + 40, 1, end)
            }
            _ => return None,
        };
        packet.tcp = tcp;
        packet.v6 = v6;
        // What stands behind the end is padding; longer than the packet it can't be.
        let end = if end > whole { whole } else { end };
        let offset = (packet.byte(tcp + 12) >> 4) * 4;
        let headers = tcp - AT + offset;
        if offset < 20 || headers > end || headers > wanted {
            return None;
        }
        packet.headers = headers;
        packet.length = end - headers;
        let ports = u32::from_be(packet.word(tcp));
        let (from, to) = (ports >> 16, ports & 0xffff);
        let (local, remote) = if leaves { (from, to) } else { (to, from) };
        if packet.flags() & flag::SYN == 0 && !is_spliced(local) {
            return None;
        }
        packet.key.local.port = local;
        packet.key.remote.port = remote;
        packet.read_key(leaves)?;
        Some(packet)
    }

    /// The device and the addresses of the packet's connection.
    #[inline(always)]
    fn read_key(&mut self, leaves: bool) -> Option<()> {
        // The context of a tc program is the packet itself (`tcf_bpf_act`, `tcx_run`).
        self.key.device = read(self.skb.cast_const().cast(), &raw const SKB_DEV)?;
        let (local, remote) = if leaves { (0, 1) } else { (1, 0) };
        if self.v6 != 0 {
            for i in 0..4 {
                let at = i as usize;
                self.key.local.ip_be[at] = self.word(IP_AT + 8 + local * 16 + i * 4);
                self.key.remote.ip_be[at] = self.word(IP_AT + 8 + remote * 16 + i * 4);
            }
        } else {
            self.key.local.ip_be = [0, 0, MAPPED_BE, self.word(IP_AT + 12 + local * 4)];
            self.key.remote.ip_be = [0, 0, MAPPED_BE, self.word(IP_AT + 12 + remote * 4)];
        }
        Some(())
    }

    #[inline(always)]
    pub(super) fn byte(&self, at: u32) -> u32 {
        u32::from(self.bytes[(at & MASK) as usize])
    }

    /// The word at `at`, a multiple of 4, as it stands in memory.
    #[inline(always)]
    pub(super) fn word(&self, at: u32) -> u32 {
        let at = (at & MASK & !3) as usize;
        // SAFETY: `at` is a multiple of 4 and at most 252; the buffer is aligned and longer.
        unsafe { self.bytes.as_ptr().add(at).cast::<u32>().read() }
    }

    #[inline(always)]
    pub(super) fn write_word(&mut self, at: u32, word: u32) {
        let at = (at & MASK & !3) as usize;
        // SAFETY: as above.
        unsafe {
            self.bytes.as_mut_ptr().add(at).cast::<u32>().write(word);
        };
    }

    /// The word at any offset, in host order.
    #[inline(always)]
    pub(super) fn number(&self, at: u32) -> u32 {
        if at & 3 == 0 {
            return u32::from_be(self.word(at));
        }
        self.byte(at) << 24 | self.byte(at + 1) << 16 | self.byte(at + 2) << 8 | self.byte(at + 3)
    }

    #[inline(always)]
    pub(super) fn set_word(&mut self, at: u32, word: u32) {
        let difference = u64::from(!self.word(at)) + u64::from(word);
        self.header += difference;
        self.write_word(at, word);
    }

    /// Sets the word at any offset, in host order.
    #[inline(always)]
    pub(super) fn set_number(&mut self, at: u32, number: u32) {
        if at & 3 == 0 {
            self.set_word(at, number.to_be());
            return;
        }
        // A byte at an even offset is the low half of a little-endian word of the sum, one at an odd offset the high half.
        for i in 0..4 {
            let to = at + i;
            let new = (number >> (24 - 8 * i)) & 0xff;
            let shift = (to & 1) * 8;
            let old = self.byte(to);
            self.header += u64::from(!(old << shift)) + u64::from(new << shift);
            self.bytes[(to & MASK) as usize] = new as u8;
        }
    }

    /// The flags, bits of [`flag`].
    #[inline(always)]
    pub(super) fn flags(&self) -> u32 {
        self.byte(self.tcp + 13)
    }

    /// Clears flags.
    #[inline(always)]
    pub(super) fn clear_flags(&mut self, flags: u32) {
        let at = self.tcp + 12;
        let word = u32::from_be(self.word(at)) & !(flags << 16);
        self.set_word(at, word.to_be());
    }

    /// Sequence number of the first byte.
    #[inline(always)]
    pub(super) fn sequence(&self) -> u32 {
        u32::from_be(self.word(self.tcp + 4))
    }

    /// Sets it.
    #[inline(always)]
    pub(super) fn set_sequence(&mut self, sequence: u32) {
        self.set_word(self.tcp + 4, sequence.to_be());
    }

    /// The next byte that the sender expects.
    #[inline(always)]
    pub(super) fn acknowledged(&self) -> u32 {
        u32::from_be(self.word(self.tcp + 8))
    }

    /// Sets it.
    #[inline(always)]
    pub(super) fn set_acknowledged(&mut self, sequence: u32) {
        self.set_word(self.tcp + 8, sequence.to_be());
    }

    /// The window, not scaled.
    #[inline(always)]
    pub(super) fn window(&self) -> u32 {
        u32::from_be(self.word(self.tcp + 12)) & 0xffff
    }

    /// Sets it.
    #[inline(always)]
    pub(super) fn set_window(&mut self, window: u32) {
        let at = self.tcp + 12;
        let window = if window > 0xffff { 0xffff } else { window };
        let word = u32::from_be(self.word(at)) & 0xffff_0000 | window;
        self.set_word(at, word.to_be());
    }

    /// Finds the options.
    #[inline(always)]
    pub(super) fn read_options(&mut self) {
        /// Two fillers, then a timestamp: how Linux and most others begin (RFC 7323, appendix A).
        const TIME_ONLY: u32 = 0x0101_080a;
        let begin = self.tcp + 20;
        let end = self.headers + AT;
        self.options = Options {
            at: begin,
            end,
            time_at: 0,
            blocks_at: 0,
            blocks: 0,
            segment: 0,
            scale: 0,
            scales: 0,
            selective: 0,
            reserved: 0,
        };
        if end == begin + 12 && u32::from_be(self.word(begin)) == TIME_ONLY {
            self.options.time_at = begin + 4;
            return;
        }
        // Every option takes at least one of at most 40 bytes.
        repeat(40, &mut ReadOptions(self));
    }

    /// The sender's timestamp and what it echoes.
    #[inline(always)]
    pub(super) fn times(&self) -> Option<(u32, u32)> {
        let at = self.options.time_at;
        if at == 0 {
            return None;
        }
        Some((self.number(at), self.number(at + 4)))
    }

    /// Sets both.
    #[inline(always)]
    pub(super) fn set_times(&mut self, time: u32, echo: u32) {
        let at = self.options.time_at;
        self.set_number(at, time);
        self.set_number(at + 4, echo);
    }

    /// Moves the blocks of a selective acknowledgement.
    #[inline(always)]
    pub(super) fn move_blocks(&mut self, by: u32) {
        let at = self.options.blocks_at;
        if at == 0 {
            return;
        }
        // Four blocks of two numbers are the most that 40 bytes hold (RFC 2018 section 3).
        for i in 0..8 {
            if i * 4 < self.options.blocks {
                let number = self.number(at + i * 4);
                self.set_number(at + i * 4, number.wrapping_add(by));
            }
        }
    }

    /// Sets sender and receiver, of the packet's own family.
    #[inline(always)]
    pub(super) fn set_ends(&mut self, from: &Address, to: &Address) {
        let ports = from.port << 16 | to.port & 0xffff;
        self.set_word(self.tcp, ports.to_be());
        if self.v6 != 0 {
            for i in 0..4 {
                self.set_address(IP_AT + 8 + i * 4, from.ip_be[i as usize]);
                self.set_address(IP_AT + 24 + i * 4, to.ip_be[i as usize]);
            }
        } else {
            self.set_address(IP_AT + 12, from.ip_be[3]);
            self.set_address(IP_AT + 16, to.ip_be[3]);
        }
    }

    #[inline(always)]
    pub(super) fn set_address(&mut self, at: u32, word: u32) {
        let difference = u64::from(!self.word(at)) + u64::from(word);
        self.addresses += difference;
        self.write_word(at, word);
    }

    /// The Ethernet header, behind AT bytes.
    #[inline(always)]
    pub(super) fn ethernet(&self) -> [u32; 4] {
        [self.word(0), self.word(4), self.word(8), self.word(12)]
    }

    /// Sets it.
    #[inline(always)]
    pub(super) fn set_ethernet(&mut self, header: &[u32; 4]) {
        for i in 0..4 {
            self.write_word(i * 4, header[i as usize]);
        }
    }

    /// Addresses the packet to the device that sends it.
    #[inline(always)]
    pub(super) fn turn_ethernet(&mut self) {
        for i in 0..6 {
            let byte = self.bytes[AT as usize + 6 + i];
            self.bytes[AT as usize + i] = byte;
        }
    }

    /// Writes the headers back; `false` if the packet is spoiled.
    #[inline(always)]
    pub(super) fn write(&mut self) -> bool {
        if self.v6 == 0 && self.addresses + self.shorter != 0 {
            let at = IP_AT + 8;
            let word = self.word(at);
            // The header's checksum is the upper half of the word in memory (RFC 791: bytes 10 and 11).
            let sum = u64::from(!word >> 16) + u64::from(folded(self.addresses + self.shorter));
            let checksum = !fold16(folded(sum)) & 0xffff;
            self.write_word(at, word & 0xffff | checksum << 16);
        }
        let mut length = self.headers;
        if length > HEADERS_MAX {
            length = HEADERS_MAX;
        }
        if length < HEADERS_MIN {
            return false;
        }
        let checksum = self.tcp - AT + 16;
        // SAFETY: the buffer has HEADERS_MAX bytes behind AT; the kernel hands a valid context.
        unsafe {
            let bytes = self.bytes.as_ptr().add(AT as usize).cast();
            if bpf_skb_store_bytes(self.skb, 0, bytes, length, 0) != 0 {
                return false;
            }
            if self.addresses + self.segment != 0 {
                let difference = u64::from(folded(self.addresses + self.segment));
                if bpf_l4_csum_replace(
                    self.skb,
                    checksum,
                    0,
                    difference,
                    u64::from(BPF_F_PSEUDO_HDR),
                ) != 0
                {
                    return false;
                }
            }
            if self.header != 0
                && bpf_l4_csum_replace(self.skb, checksum, 0, u64::from(folded(self.header)), 0)
                    != 0
            {
                return false;
            }
        }
        self.addresses = 0;
        self.header = 0;
        self.shorter = 0;
        self.segment = 0;
        true
    }

    /// Where the packet lies.
    #[inline(always)]
    pub(super) fn skb(&self) -> *mut __sk_buff {
        self.skb
    }
}

/// Whether a spliced connection may have this local port: most packets of a pod that serves need no more than this question.
#[inline(always)]
fn is_spliced(port: u32) -> bool {
    PORTS.get(port).is_some_and(|known| *known != 0)
}

/// From now on packets with this local port are looked at.
#[inline(always)]
pub(super) fn splice(port: u32) {
    if let Some(known) = PORTS.get_ptr_mut(port) {
        // SAFETY: a live map value; whoever writes it writes the same.
        unsafe { *known = 1 };
    }
}

/// A sum of 64 bits as one of 32.
#[inline(always)]
pub(super) fn folded(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// A sum of 32 bits as one of 16.
#[inline(always)]
pub(super) fn fold16(sum: u32) -> u32 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

struct ReadOptions<'a>(&'a mut Scratch);

impl ReadOptions<'_> {
    #[inline(always)]
    pub(super) fn byte(&self, at: u32) -> u32 {
        u32::from(self.0.bytes[(at & MASK) as usize])
    }
}

impl Body for ReadOptions<'_> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let at = self.0.options.at;
        if at >= self.0.options.end {
            return false;
        }
        let (kind, length) = (self.byte(at), self.byte(at + 1));
        // RFC 9293 section 3.2: the end, and the filler.
        if kind == 0 {
            return false;
        }
        if kind == 1 {
            self.0.options.at = at + 1;
            return true;
        }
        if length < 2 {
            return false;
        }
        match (kind, length) {
            (2, 4) => self.0.options.segment = self.byte(at + 2) << 8 | self.byte(at + 3),
            (3, 3) => {
                self.0.options.scales = 1;
                self.0.options.scale = self.byte(at + 2) & 15;
            }
            (4, 2) => self.0.options.selective = 1,
            (5, _) => {
                self.0.options.blocks_at = at + 2;
                self.0.options.blocks = length - 2;
            }
            (8, 10) => self.0.options.time_at = at + 2,
            _ => {}
        }
        self.0.options.at = at + length;
        true
    }
}
