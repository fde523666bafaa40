//! Base64, as Go writes bytes in JSON.

/// Reads it.
///
/// # Panics
/// When it is not base64.
pub(crate) fn read(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("not base64: {text}"),
    };
    let digits: Vec<u8> = text.trim_end_matches('=').bytes().map(digit).collect();
    let bits =
        |chunk: &[u8]| chunk.iter().enumerate().map(|(at, &digit)| u32::from(digit) << (18 - 6 * at)).sum::<u32>();
    digits.chunks(4).flat_map(|chunk| bits(chunk).to_be_bytes()[1..chunk.len()].to_vec()).collect()
}
