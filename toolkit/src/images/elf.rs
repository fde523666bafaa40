//! Whether a program can run in an image that has no dynamic linker.

use std::{io::Read, path::Path};

use fs_err as fs;
use sluice_shell::platform::Platform;

use super::Error;

const PT_INTERP: u64 = 3;

/// Refuses `path` unless it is a static executable for `platform` (ELF specification, "ELF header", "Program header").
pub(crate) fn require_static(path: &Path, platform: Platform) -> Result<(), Error> {
    let mut start = vec![];
    fs::File::open(path)?.take(1 << 16).read_to_end(&mut start)?;
    problem(&start, platform).map_or(Ok(()), |reason| Err(Error::Binary { path: path.to_owned(), reason }))
}

/// What is wrong with the program that starts with the bytes `start`.
fn problem(start: &[u8], platform: Platform) -> Option<String> {
    let number = |offset: usize, size: usize| -> Option<u64> {
        let bytes = start.get(offset..offset.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    // Magic, 64 bits, little endian: so are both architectures.
    if !start.starts_with(b"\x7fELF\x02\x01") {
        return Some("it is not a 64-bit Linux program".to_owned());
    }
    let expected = match platform {
        Platform::Amd64 => 62,
        Platform::Arm64 => 183,
    };
    let cut = || Some("its ELF header is cut short".to_owned());
    let (Some(machine), Some(table), Some(size), Some(count)) =
        (number(18, 2), number(32, 8), number(54, 2), number(56, 2))
    else {
        return cut();
    };
    if machine != expected {
        return Some(format!("it is for another processor (ELF machine {machine}, {platform} is {expected})"));
    }
    for n in 0..count {
        let offset = usize::try_from(table.saturating_add(n * size)).unwrap_or(usize::MAX);
        match number(offset, 4) {
            Some(PT_INTERP) => return Some("it is linked dynamically, and the image has no libraries".to_owned()),
            Some(_) => {}
            None => return cut(),
        }
    }
    None
}

/// The start of a program with one program header of type `kind`.
#[cfg(test)]
pub(crate) fn program(machine: u8, kind: u8) -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (bytes[18], bytes[32], bytes[54], bytes[56], bytes[64]) = (machine, 64, 56, 1, kind);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_static_programs_of_the_platform_pass() {
        for (bytes, platform, expected) in [
            (program(62, 1), Platform::Amd64, None),
            (program(183, 1), Platform::Arm64, None),
            (program(183, 1), Platform::Amd64, Some("another processor")),
            (program(62, PT_INTERP as u8), Platform::Amd64, Some("linked dynamically")),
            (b"#!/bin/sh\n".to_vec(), Platform::Amd64, Some("not a 64-bit")),
            (vec![], Platform::Amd64, Some("not a 64-bit")),
        ] {
            let problem = problem(&bytes, platform);
            match expected {
                None => assert_eq!(problem, None),
                Some(text) => assert!(problem.is_some_and(|problem| problem.contains(text)), "{text}"),
            }
        }
    }

    #[test]
    fn a_cut_header_is_refused() {
        let whole = program(62, PT_INTERP as u8);
        for length in 0..64 + 4 {
            assert!(problem(&whole[..length], Platform::Amd64).is_some(), "{length}");
        }
    }

    /// The test program itself is linked against libc.
    #[test]
    fn a_real_dynamic_program_is_refused() {
        let this = std::env::current_exe().unwrap();
        let host = Platform::host().unwrap();
        assert!(matches!(require_static(&this, host), Err(Error::Binary { .. })));
    }
}
