//! Hashes as Nix writes them.

/// The digits of Nix's base 32, without e, o, u and t (`nix32Chars` in Nix's `hash.cc`).
const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Bytes in Nix's base 32, the last of five bits first (`printHash32` in Nix's `hash.cc`).
#[must_use]
pub fn base32(bytes: &[u8]) -> String {
    let length = (bytes.len() * 8).div_ceil(5);
    let at = |index: usize| bytes.get(index).copied().map_or(0, u16::from);
    let digit = |number: usize| {
        let (byte, shift) = (number * 5 / 8, number * 5 % 8);
        let bits = (at(byte) | at(byte + 1) << 8) >> shift;
        char::from(DIGITS[usize::from(bits & 31)])
    };
    (0..length).rev().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_written_as_nix_writes_it() {
        // `nix hash convert --hash-algo sha256 --to nix32` of the SHA-256 of nothing.
        let empty = [
            0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
            0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
        ];
        assert_eq!(base32(&empty), "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73");
        assert_eq!(base32(&[]), "");
    }
}
