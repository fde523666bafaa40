//! The keys of releases: two pairs in one folder, because the tools of the field read two forms.
//!
//! `minisign.key` and `minisign.pub` (Ed25519) sign `SHA256SUMS`; `ecdsa.key` and `ecdsa.pub` (P-256, as PKCS #8 and
//! SPKI in PEM) sign statements and images. One password protects both.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use p256::ecdsa::{SigningKey, VerifyingKey};
use pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use ring::rand::SecureRandom as _;
use ring::signature::Ed25519KeyPair;

use sluice_shell::error::{Error, Explain, Result};
use sluice_shell::process::PASSWORD;

const MINISIGN: &str = "minisign";
const ECDSA: &str = "ecdsa";

/// Where the password of the keys is.
#[derive(clap::Args)]
pub(super) struct Password {
    /// A file whose first line is the password of the keys [default: the variable SLUICE_SIGN_PASSWORD]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Password {
    /// None if there is none, and the keys are kept without.
    pub(super) fn read(&self) -> Result<Option<String>> {
        let text = match &self.password_file {
            Some(file) => fs::read_to_string(file)?.lines().next().unwrap_or_default().to_owned(),
            None => std::env::var(PASSWORD).unwrap_or_default(),
        };
        match text.is_empty() {
            true if self.password_file.is_some() => Err(Error::input("the first line of the password's file is empty")),
            true => Ok(None),
            false => Ok(Some(text)),
        }
    }
}

/// A key can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{} can't be used: {reason}", path.display())]
struct Unusable {
    path: PathBuf,
    reason: String,
}

impl Explain for Unusable {
    fn hint(&self) -> Option<String> {
        Some(format!(
            "`cargo xtask release --new-key DIR` makes a folder with keys; their password is read from --password-file \
             or {PASSWORD}"
        ))
    }
}

fn unusable(path: &Path, reason: impl ToString) -> Error {
    Unusable { path: path.to_owned(), reason: reason.to_string() }.into()
}

/// What signs a release.
pub(super) struct Signer {
    /// The number by which minisign knows the key.
    pub(super) number: [u8; 8],
    /// minisign's key.
    pub(super) minisign: Ed25519KeyPair,
    /// The key of statements and images.
    pub(super) ecdsa: SigningKey,
}

/// What checks the signatures of a release.
pub(super) struct PublicKeys {
    /// minisign's key.
    pub(super) minisign: minisign::PublicKey,
    /// The key of statements and images.
    pub(super) ecdsa: VerifyingKey,
}

/// Makes new keys in the folder `folder`. Those of an older release are never overwritten.
pub(super) fn generate(folder: &Path, password: Option<&str>) -> Result<()> {
    fs::create_dir_all(folder)?;
    let wrong = |reason: &dyn ToString| unusable(folder, reason.to_string());
    let pair = match password {
        Some(password) => minisign::KeyPair::generate_encrypted_keypair(Some(password.to_owned())),
        None => minisign::KeyPair::generate_unencrypted_keypair(),
    };
    let pair = pair.map_err(|error| wrong(&error))?;
    let secret = pair.sk.to_box(Some("secret key of Sluice releases")).map_err(|error| wrong(&error))?;
    let public = pair.pk.to_box().map_err(|error| wrong(&error))?;
    store(&folder.join("minisign.key"), 0o600, &ended(secret.into_string()))?;
    store(&folder.join("minisign.pub"), 0o644, &ended(public.into_string()))?;

    let key = scalar()?;
    let secret = match password {
        Some(password) => key.to_pkcs8_encrypted_pem(password, LineEnding::LF),
        None => key.to_pkcs8_pem(LineEnding::LF),
    };
    store(&folder.join("ecdsa.key"), 0o600, &secret.map_err(|error| wrong(&error))?)?;
    let public = key.public_key().to_public_key_pem(LineEnding::LF).map_err(|error| wrong(&error))?;
    store(&folder.join("ecdsa.pub"), 0o644, &public)
}

/// A secret number of the curve.
fn scalar() -> Result<p256::SecretKey> {
    let random = ring::rand::SystemRandom::new();
    loop {
        let mut bytes = [0; 32];
        random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        // One in 2^32 is above the order of the curve.
        if let Ok(key) = p256::SecretKey::from_slice(&bytes) {
            return Ok(key);
        }
    }
}

fn ended(text: String) -> String {
    if text.ends_with('\n') { text } else { text + "\n" }
}

fn store(path: &Path, mode: u32, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.options_mut().mode(mode);
    let mut file = options.write(true).create_new(true).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

impl Signer {
    /// Reads the secret keys in a folder.
    pub(super) fn load(folder: &Path, password: Option<&str>) -> Result<Self> {
        let (number, minisign) = Self::minisign(&folder.join(MINISIGN).with_extension("key"), password)?;
        let path = folder.join(ECDSA).with_extension("key");
        let text = fs::read_to_string(&path)?;
        let key = match password {
            Some(password) if text.contains("ENCRYPTED") => p256::SecretKey::from_pkcs8_encrypted_pem(&text, password),
            None if text.contains("ENCRYPTED") => return Err(unusable(&path, "it needs its password")),
            _ => p256::SecretKey::from_pkcs8_pem(&text),
        };
        let ecdsa = key.map_err(|error| unusable(&path, error))?.into();
        Ok(Self { number, minisign, ecdsa })
    }

    fn minisign(path: &Path, password: Option<&str>) -> Result<([u8; 8], Ed25519KeyPair)> {
        let text = fs::read_to_string(path)?;
        let read = minisign::SecretKeyBox::from_string(&text).map_err(|error| unusable(path, error))?;
        let key = match read.clone().into_unencrypted_secret_key() {
            Ok(key) if !key.is_encrypted() => Ok(key),
            _ => match password {
                // Without one the crate would ask the terminal.
                Some(password) => read.into_secret_key(Some(password.to_owned())),
                None => return Err(unusable(path, "it needs its password")),
            },
        };
        let bytes = key.map_err(|error| unusable(path, error))?.to_bytes();
        // minisign.h `SeckeyStruct`: three algorithms, salt, two limits, then number, seed, public key.
        let part = |from: usize, to: usize| bytes.get(from..to).ok_or_else(|| unusable(path, "it is too short"));
        let number = part(54, 62)?.try_into().unwrap_or_default();
        let pair = Ed25519KeyPair::from_seed_and_public_key(part(62, 94)?, part(94, 126)?);
        Ok((number, pair.map_err(|error| unusable(path, error))?))
    }
}

impl PublicKeys {
    /// Reads the public keys in a folder.
    pub(super) fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(MINISIGN).with_extension("pub");
        let text = fs::read_to_string(&path)?;
        let minisign = minisign::PublicKeyBox::from_string(&text).and_then(minisign::PublicKeyBox::into_public_key);
        let minisign = minisign.map_err(|error| unusable(&path, error))?;
        let path = folder.join(ECDSA).with_extension("pub");
        let ecdsa = p256::PublicKey::from_public_key_pem(&fs::read_to_string(&path)?);
        let ecdsa = ecdsa.map_err(|error| unusable(&path, error))?.into();
        Ok(Self { minisign, ecdsa })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_with_their_password_alone() {
        for (password, given, works) in [
            (None, None, true),
            (Some("secret"), Some("secret"), true),
            (Some("secret"), Some("other"), false),
            (Some("secret"), None, false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            generate(dir.path(), password).unwrap();
            PublicKeys::load(dir.path()).unwrap();
            assert_eq!(Signer::load(dir.path(), given).is_ok(), works, "{password:?} {given:?}");
        }
    }

    #[test]
    fn a_key_is_never_overwritten_and_a_secret_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        generate(dir.path(), None).unwrap();
        for name in ["minisign.key", "ecdsa.key"] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
        }
        let before = fs::read(dir.path().join("minisign.key")).unwrap();
        generate(dir.path(), None).unwrap_err();
        assert_eq!(fs::read(dir.path().join("minisign.key")).unwrap(), before);
    }
}
