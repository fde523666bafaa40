//! Signatures of files in minisign's form, which `minisign -V` checks.
//!
//! The crate signs with a random part. Here the same file and key give the same bytes, as with minisign itself.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b512, Digest as _};
use minisign::SignatureBox;

use super::keys::{PublicKeys, Signer};

/// The signature of `bytes`. `about` is signed with them, and shown by who checks it.
pub(super) fn sign(signer: &Signer, bytes: &[u8], about: &str) -> String {
    // Prehashed: the algorithm `ED` signs the BLAKE2b-512 of the file.
    let signature = signer.minisign.sign(&Blake2b512::digest(bytes));
    let whole = signer.minisign.sign(&[signature.as_ref(), about.as_bytes()].concat());
    let first = STANDARD.encode([b"ED", signer.number.as_slice(), signature.as_ref()].concat());
    let second = STANDARD.encode(whole);
    format!("untrusted comment: signature of a Sluice release\n{first}\ntrusted comment: {about}\n{second}\n")
}

/// Why the signature `text` is none of `bytes`.
pub(super) fn verify(keys: &PublicKeys, bytes: &[u8], text: &str) -> Result<(), String> {
    let signature = SignatureBox::from_string(text).map_err(|error| error.to_string())?;
    minisign::verify(&keys.minisign, &signature, Cursor::new(bytes), true, false, false)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;
    use sluice_shell::process::Run;

    #[test]
    fn minisign_accepts_our_signatures_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        keys::generate(dir.path(), None).unwrap();
        let signer = Signer::load(dir.path(), None).unwrap();
        let text = sign(&signer, b"sums", "sluice v1");
        assert_eq!(text, sign(&signer, b"sums", "sluice v1"), "the same each time");

        let public = PublicKeys::load(dir.path()).unwrap();
        verify(&public, b"sums", &text).unwrap();
        verify(&public, b"sumz", &text).unwrap_err();
        verify(&public, b"sums", &text.replace("sluice v1", "sluice v2")).unwrap_err();

        for (bytes, accepted) in [("sums", true), ("sumz", false)] {
            fs_err::write(dir.path().join("file"), bytes).unwrap();
            fs_err::write(dir.path().join("file.minisig"), &text).unwrap();
            let run = Run::new("minisign", dir.path()).args(["-V", "-p", "minisign.pub", "-m", "file"]);
            assert_eq!(run.run().is_ok(), accepted, "Debian's package minisign, on {bytes}");
        }
    }
}
