//! Damages inputs.

use super::random::Random;

/// No input is longer.
pub(crate) const MAX: usize = 1 << 20;
/// Most are not longer, so that many can be tried.
const USUAL: usize = 8 << 10;

/// Numbers at which lengths and offsets go wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// A place in something of this length, its end included.
fn place(random: &mut Random, len: usize) -> usize {
    random.within(0..len as u64 + 1) as usize
}

/// A part of the input, most often a short one.
fn part(random: &mut Random, len: usize) -> std::ops::Range<usize> {
    let from = place(random, len);
    let longest = if random.once_in(3) { len } else { 16 };
    from..(from + place(random, longest)).min(len)
}

/// Changes `input` once. `other` is another good input, `words` are pieces of which such inputs are made.
pub(crate) fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8], words: &[&[u8]]) {
    let at = place(random, input.len());
    match random.within(0..9) {
        0 => flip(random, input),
        1 => {
            let removed = part(random, input.len());
            input.drain(removed);
        }
        2 => {
            let bytes: Vec<u8> = (0..random.within(1..9)).map(|_| random.within(0..256) as u8).collect();
            input.splice(at..at, bytes);
        }
        3 | 4 if !words.is_empty() => {
            let word = words[random.within(0..words.len() as u64) as usize];
            let until = if random.once_in(2) { at } else { (at + word.len()).min(input.len()) };
            input.splice(at..until, word.iter().copied());
        }
        5 => edge(random, input, at),
        6 => {
            let (from, to) = (part(random, other.len()), part(random, input.len()));
            input.splice(to, other[from].iter().copied());
        }
        7 => repeat(random, input),
        _ => {
            let moved: Vec<u8> = input[part(random, input.len())].to_vec();
            input.splice(at..at, moved);
        }
    }
    input.truncate(MAX);
}

fn flip(random: &mut Random, input: &mut [u8]) {
    if let Some(last) = input.len().checked_sub(1) {
        let at = place(random, last);
        input[at] =
            if random.once_in(2) { input[at] ^ (1 << random.within(0..8)) } else { random.within(0..256) as u8 };
    }
}

/// Overwrites a number of 1, 2, 4 or 8 bytes, in either order.
fn edge(random: &mut Random, input: &mut [u8], at: usize) {
    let number = EDGES[random.within(0..EDGES.len() as u64) as usize];
    let size = 1 << random.within(0..4);
    let big = random.once_in(2);
    for (index, byte) in input.iter_mut().skip(at).take(size).enumerate() {
        let shift = if big { size - 1 - index } else { index };
        *byte = (number >> (8 * shift)) as u8;
    }
}

/// Says the same again and again: what is quadratic shows.
fn repeat(random: &mut Random, input: &mut Vec<u8>) {
    let said = part(random, input.len());
    let limit = if random.once_in(100) { MAX } else { USUAL };
    let room = limit.saturating_sub(input.len()) / said.len().max(1);
    let times = if random.once_in(2) { room } else { room.min(4) };
    let again = input[said.clone()].repeat(times);
    input.splice(said.end..said.end, again);
}
