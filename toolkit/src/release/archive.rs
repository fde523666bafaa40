//! A release as one file: a tar archive, compressed with Zstandard, the same bytes on every machine.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use fs_err as fs;
use sha2::{Digest as _, Sha256};

use super::bundle::{Files, is_name};
use sluice_shell::error::{Attempt as _, Error, Result};

/// Higher levels take minutes for a few per cent: most of a release is compressed already.
const LEVEL: i32 = 9;

/// How far back the same bytes are found, as a power of two: the most that others unpack without being told. A release
/// has many bytes twice, in the images for each user, and gets nine per cent smaller.
const WINDOW: u32 = 27;

/// What an archive may unpack to: some ten times a release.
const LIMIT: u64 = 16 << 30;

/// What the names of archives end in.
pub(super) const EXTENSION: &str = ".tar.zst";

/// Writes the files below `folder` to the archive `to`, below the folder `top` in it; each has the time `moment`.
pub(super) fn write(folder: &Path, top: &str, moment: u64, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    let file = BufWriter::with_capacity(1 << 18, fs::File::create(&new)?);
    let mut encoder = zstd::Encoder::new(file, LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.long_distance_matching(true)?;
    encoder.window_log(WINDOW)?;
    let mut file = pack(folder, top, moment, encoder)?.finish()?;
    file.flush()?;
    drop(file);
    Ok(fs::rename(new, to)?)
}

/// The sha256 of the archive that [`write`] makes, before it is compressed.
pub(super) fn digest(folder: &Path, top: &str, moment: u64) -> Result<[u8; 32]> {
    let mut sum = Summed { inner: io::sink(), sum: Sha256::new() };
    pack(folder, top, moment, &mut sum)?;
    Ok(sum.sum.finalize().into())
}

fn pack<W: Write>(folder: &Path, top: &str, moment: u64, to: W) -> Result<W> {
    let mut tar = tar::Builder::new(to);
    for name in Files::of(folder)?.all()? {
        let file = fs::File::open(folder.join(&name))?;
        let meta = file.metadata()?;
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 });
        header.set_mtime(moment);
        header.set_size(meta.len());
        tar.append_data(&mut header, format!("{top}/{name}"), file).attempting(|| format!("cannot pack {name}"))?;
    }
    Ok(tar.into_inner()?)
}

/// Unpacks the archive into the folder `into`, which is empty: regular files alone, all below one folder, nothing
/// twice. Returns the name of that folder, and the sha256 of the archive before it was compressed.
pub(super) fn unpack(archive: &Path, into: &Path) -> Result<(String, [u8; 32])> {
    let file = BufReader::with_capacity(1 << 18, fs::File::open(archive)?);
    let mut plain = Summed { inner: zstd::Decoder::with_buffer(file)?.take(LIMIT), sum: Sha256::new() };
    let mut top = None;
    let mut tar = tar::Archive::new(&mut plain);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let odd = || Error::input(format!("{} holds {name:?}, which no release does", archive.display()));
        let (first, _) = name.split_once('/').filter(|_| is_name(&name)).ok_or_else(odd)?;
        if entry.header().entry_type() != tar::EntryType::Regular || top.get_or_insert(first.to_owned()) != first {
            return Err(odd());
        }
        let mode = if entry.header().mode()? & 0o100 == 0 { 0o644 } else { 0o755 };
        save(&mut entry, &into.join(&name), mode).attempting(|| format!("cannot unpack {name}"))?;
    }
    io::copy(&mut plain, &mut io::sink())?;
    match top {
        Some(top) => Ok((top, plain.sum.finalize().into())),
        None => Err(Error::input(format!("{} holds nothing", archive.display()))),
    }
}

fn save(from: &mut impl Read, path: &PathBuf, mode: u32) -> Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    let mut options = fs::OpenOptions::new();
    options.options_mut().mode(mode);
    // A file that is there already is refused: an archive names each once.
    let mut file = options.write(true).create_new(true).open(path)?;
    io::copy(from, &mut file)?;
    Ok(fs::set_permissions(path, PermissionsExt::from_mode(mode))?)
}

/// Hashes what passes.
struct Summed<I> {
    inner: I,
    sum: Sha256,
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.sum.update(&buffer[..read]);
        Ok(read)
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
