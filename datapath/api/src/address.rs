//! IP addresses and ports as map keys: one form for IPv4 and IPv6.

/// A transport address. IPv4 is stored IPv4-mapped (`::ffff:a.b.c.d`), so that one key serves both families.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Address {
    /// The address as four 32-bit words in network byte order, as the kernel's contexts hold it.
    pub ip_be: [u32; 4],
    /// Port, host byte order, 0 to 65535.
    pub port: u32,
}

/// The third word of an IPv4-mapped address, in network byte order.
pub const MAPPED_BE: u32 = 0xffff_u32.to_be();

impl Address {
    /// An IPv4 address from the kernel's network-order word and a host-order port.
    #[inline(always)]
    pub const fn v4(ip_be: u32, port: u32) -> Self {
        Self {
            ip_be: [0, 0, MAPPED_BE, ip_be],
            port,
        }
    }

    /// An IPv6 address from the kernel's network-order words and a host-order port.
    #[inline(always)]
    pub const fn v6(ip_be: [u32; 4], port: u32) -> Self {
        Self { ip_be, port }
    }

    /// Whether this is an IPv4 (mapped) address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.ip_be[0] == 0 && self.ip_be[1] == 0 && self.ip_be[2] == MAPPED_BE
    }

    /// The address under which a listener on all addresses of this family and port is found.
    #[inline(always)]
    #[must_use]
    pub const fn any(&self) -> Self {
        if self.is_v4() {
            Self::v4(0, self.port)
        } else {
            Self::v6([0; 4], self.port)
        }
    }

    /// Whether it is this machine's own, whatever machine it is: 127.0.0.0/8 or ::1.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() {
            self.ip_be[3] & 0xff00_0000_u32.to_be() == 0x7f00_0000_u32.to_be()
        } else {
            self.ip_be[0] == 0
                && self.ip_be[1] == 0
                && self.ip_be[2] == 0
                && self.ip_be[3] == 1_u32.to_be()
        }
    }

    /// The hash that places a listener in its table; both sides compute it.
    #[inline(always)]
    pub const fn hash(&self) -> u32 {
        // Fibonacci hashing of the mixed words: the table is built by the controller, so an
        // adversary does not choose its keys, and the probe bound is checked when it is built.
        let mixed = self.ip_be[0] ^ self.ip_be[1].rotate_left(9) ^ self.ip_be[2].rotate_left(17);
        let mixed = mixed ^ self.ip_be[3] ^ (self.port << 15);
        let mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x9e37_79b1);
        mixed ^ (mixed >> 15)
    }
}

#[cfg(test)]
extern crate std;

impl From<core::net::SocketAddr> for Address {
    fn from(address: core::net::SocketAddr) -> Self {
        let octets = match address.ip() {
            core::net::IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            core::net::IpAddr::V6(ip) => ip.octets(),
        };
        let word =
            |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
        Self {
            ip_be: [word(0), word(4), word(8), word(12)],
            port: u32::from(address.port()),
        }
    }
}

impl From<Address> for core::net::SocketAddr {
    fn from(address: Address) -> Self {
        let mut octets = [0; 16];
        for (chunk, word) in octets.chunks_exact_mut(4).zip(address.ip_be) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        let ip = core::net::Ipv6Addr::from(octets).to_canonical();
        Self::new(ip, address.port as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in [
            "10.96.0.1:80",
            "[fd00:10:96::1]:8080",
            "255.255.255.255:65535",
            "[::]:0",
        ] {
            let address: SocketAddr = text.parse().unwrap();
            let abi = Address::from(address);
            assert_eq!(SocketAddr::from(abi), address, "{text}");
            assert_eq!(abi.is_v4(), address.is_ipv4(), "{text}");
        }
    }

    #[test]
    fn all_addresses_of_a_family_have_one_name() {
        let any = |text: &str| {
            let address: SocketAddr = text.parse().unwrap();
            SocketAddr::from(Address::from(address).any())
        };
        assert_eq!(any("10.96.0.1:80"), "0.0.0.0:80".parse().unwrap());
        assert_eq!(any("[fd00::1]:80"), "[::]:80".parse().unwrap());
        for (text, own) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("128.0.0.1:1", false),
            ("[::1]:1", true),
            ("[::2]:1", false),
        ] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::from(address).is_loopback(), own, "{text}");
        }
    }

    #[test]
    fn v4_from_a_context_word_equals_v4_from_a_socket_address() {
        let address: SocketAddr = "10.96.0.1:80".parse().unwrap();
        let word = u32::from_ne_bytes([10, 96, 0, 1]);
        assert_eq!(Address::v4(word, 80), Address::from(address));
    }
}
