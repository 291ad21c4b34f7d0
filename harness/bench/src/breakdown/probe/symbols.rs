//! Kernel addresses to names, from `/proc/kallsyms`.

use std::io;

/// An address this far beyond the last symbol before it belongs to no symbol.
const FAR: u64 = 1 << 20;

/// Sorted symbols.
#[derive(Debug, Clone, Default)]
pub struct Symbols(Vec<(u64, String)>);

impl Symbols {
    /// Reads the kernel's symbols, those of loaded eBPF programs included where the kernel lists them.
    ///
    /// # Errors
    /// When the file is unreadable, or hides its addresses (`kernel.kptr_restrict`).
    pub fn read() -> io::Result<Self> {
        let symbols = Self::parse(&std::fs::read_to_string("/proc/kallsyms")?);
        if symbols.0.last().is_none_or(|(address, _)| *address == 0) {
            return Err(io::Error::other(
                "/proc/kallsyms hides its addresses, see kernel.kptr_restrict",
            ));
        }
        Ok(symbols)
    }

    fn parse(text: &str) -> Self {
        let mut symbols: Vec<(u64, String)> = text
            .lines()
            .filter_map(|line| {
                let mut fields = line.split_whitespace();
                let address = u64::from_str_radix(fields.next()?, 16).ok()?;
                Some((address, fields.nth(1)?.to_owned()))
            })
            .collect();
        symbols.sort_unstable_by_key(|(address, _)| *address);
        Self(symbols)
    }

    /// The name that covers an address.
    pub fn name(&self, address: u64) -> Option<&str> {
        let after = self.0.partition_point(|(start, _)| *start <= address);
        let (start, name) = self.0.get(after.checked_sub(1)?)?;
        (address - start < FAR).then_some(name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_name_before_it() {
        let symbols = Symbols::parse("0000000000002000 T second\n0000000000001000 t first\n");
        assert_eq!(symbols.name(0x1000), Some("first"));
        assert_eq!(symbols.name(0x1fff), Some("first"));
        assert_eq!(symbols.name(0x2001), Some("second"));
        assert_eq!(symbols.name(0xfff), None);
        assert_eq!(symbols.name(0x2000 + FAR), None);
    }
}
