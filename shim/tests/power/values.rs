//! Values that say who wrote them, and whether any of their bytes is another one.

/// A value, without its bytes: what was written, and how long it is.
pub(crate) type Value = String;

/// The bytes of a value of about that length: an object with a label, a field and filler that follows from its name.
pub(crate) fn object(name: &str, more: &str, length: u64) -> Vec<u8> {
    let begin = format!(
        r#"{{"apiVersion":"power.example.com/v1","kind":"Thing","metadata":{{"name":"{name}","labels":{{"of":"{name}"}}{more}}},"spec":{{"color":"{}","filler":""#,
        ["red", "green", "blue"][name.len() % 3]
    );
    let mut bytes = begin.into_bytes();
    let mut filler = crate::random::Random::new(seed(name), 0);
    while (bytes.len() as u64) < length.saturating_sub(20) {
        bytes.extend_from_slice(format!("{:016x}", filler.within(0..u64::MAX)).as_bytes());
    }
    bytes.extend_from_slice(b"\"}}");
    bytes
}

fn seed(name: &str) -> u64 {
    name.bytes().fold(7, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()))
}

/// A value as the ledger keeps it: its begin, its length and a hash of all of it.
pub(crate) fn read(bytes: &[u8]) -> Value {
    let begin = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]);
    format!("{begin}… ({} bytes, {:08x})", bytes.len(), crc32c::crc32c(bytes))
}
