//! The checksum of a row: CRC-32C over its columns, each with its length, so that
//! no byte can move from one column to the next unseen.

/// Reflected polynomial of CRC-32C (Castagnoli).
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = if value & 1 == 1 { POLYNOMIAL } else { 0 };
            value = (value >> 1) ^ carry;
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// Sums up columns in their order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checksum(u32);

// === impl Checksum ===

impl Checksum {
    /// `table` tells rows of different tables apart.
    pub(super) fn of(table: &str) -> Self {
        Self(!0).bytes(table.as_bytes())
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        self.raw(&(bytes.len() as u64).to_le_bytes()).raw(bytes)
    }

    pub(super) fn int(self, value: i64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    /// As it stands in the row.
    pub(super) fn get(self) -> i64 {
        i64::from(!self.0)
    }

    fn raw(self, bytes: &[u8]) -> Self {
        let step = |crc: u32, byte: &u8| {
            let index = (crc ^ u32::from(*byte)) & 0xff;
            (crc >> 8) ^ TABLE[index as usize]
        };
        Self(bytes.iter().fold(self.0, step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_crc_32c() {
        let sum = Checksum(!0).raw(b"123456789");
        assert_eq!(sum.get(), 0xe306_9283);
    }

    #[test]
    fn columns_do_not_run_into_each_other() {
        let sum = |a: &str, b: &str| {
            let both = Checksum::of("t").bytes(a.as_bytes()).bytes(b.as_bytes());
            both.get()
        };
        assert_ne!(sum("ab", "c"), sum("a", "bc"));
        assert_ne!(Checksum::of("a").get(), Checksum::of("b").get());
    }
}
