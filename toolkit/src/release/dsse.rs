//! Signed statements: DSSE envelopes (github.com/secure-systems-lab/dsse) with ECDSA over P-256 and SHA-256.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::DerSignature;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use serde::{Deserialize, Serialize};

use super::keys::{PublicKeys, Signer};
use sluice_shell::error::Result;

/// What the envelopes of a release carry.
const TYPE: &str = "application/vnd.in-toto+json";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    /// A hint only, and we give none.
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// The bytes that are signed (protocol.md, "Pre-Authentication Encoding").
fn encoding(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {TYPE} {} ", TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The signature of `bytes` in DER.
pub(super) fn signature(signer: &Signer, bytes: &[u8]) -> String {
    let signature: DerSignature = signer.ecdsa.sign(bytes);
    STANDARD.encode(signature.as_bytes())
}

/// Whether `signature` is one of `bytes`.
pub(super) fn is_signed(keys: &PublicKeys, bytes: &[u8], signature: &str) -> bool {
    let signature = STANDARD.decode(signature).ok().and_then(|der| DerSignature::from_bytes(&der).ok());
    signature.is_some_and(|signature| keys.ecdsa.verify(bytes, &signature).is_ok())
}

/// The envelope with `payload`.
pub(super) fn sign(signer: &Signer, payload: &[u8]) -> Result<String> {
    let sig = signature(signer, &encoding(payload));
    let signatures = vec![Signature { keyid: String::new(), sig }];
    let envelope = Envelope { payload: STANDARD.encode(payload), payload_type: TYPE.to_owned(), signatures };
    Ok(serde_json::to_string(&envelope)? + "\n")
}

/// The payload of an envelope, whose signature is checked if there are keys; or what is wrong with it.
pub(super) fn open(envelope: &[u8], keys: Option<&PublicKeys>) -> Result<Vec<u8>, String> {
    let envelope: Envelope = serde_json::from_slice(envelope).map_err(|error| format!("it is no envelope: {error}"))?;
    if envelope.payload_type != TYPE {
        return Err(format!("it carries {:?}, no statement", envelope.payload_type));
    }
    let payload = STANDARD.decode(&envelope.payload).map_err(|error| format!("its payload is no base64: {error}"))?;
    let [signature] = envelope.signatures.as_slice() else {
        return Err(format!("it has {} signatures instead of one", envelope.signatures.len()));
    };
    match keys {
        Some(keys) if !is_signed(keys, &encoding(&payload), &signature.sig) => {
            Err("its signature is not one of the key".to_owned())
        }
        _ => Ok(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;
    use sluice_shell::process::Run;

    #[test]
    fn openssl_accepts_our_signatures_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        keys::generate(dir.path(), None).unwrap();
        let signer = Signer::load(dir.path(), None).unwrap();
        let text = sign(&signer, b"{}").unwrap();
        assert_eq!(text, sign(&signer, b"{}").unwrap(), "the same each time");
        let envelope: Envelope = serde_json::from_str(&text).unwrap();
        fs_err::write(dir.path().join("sig"), STANDARD.decode(&envelope.signatures[0].sig).unwrap()).unwrap();
        for (payload, accepted) in [("{}", true), ("[]", false)] {
            let encoding = format!("DSSEv1 28 application/vnd.in-toto+json {} {payload}", payload.len());
            fs_err::write(dir.path().join("pae"), encoding).unwrap();
            let run = Run::new("openssl", dir.path());
            let run = run.args(["dgst", "-sha256", "-verify", "ecdsa.pub", "-signature", "sig", "pae"]);
            assert_eq!(run.run().is_ok(), accepted, "{payload}");
        }
    }

    #[test]
    fn what_is_not_signed_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (dir.path().join("ours"), dir.path().join("other"));
        keys::generate(&ours, None).unwrap();
        keys::generate(&other, None).unwrap();
        let text = sign(&Signer::load(&ours, None).unwrap(), b"{}").unwrap();
        let (public, theirs) = (PublicKeys::load(&ours).unwrap(), PublicKeys::load(&other).unwrap());
        assert_eq!(open(text.as_bytes(), Some(&public)).unwrap(), b"{}");
        let wrong = |text: &str, keys| open(text.as_bytes(), keys).unwrap_err();
        assert!(wrong(&text, Some(&theirs)).contains("not one of the key"));
        assert!(wrong(&text.replace("e30=", "W10="), Some(&public)).contains("not one of the key"));
        assert!(wrong(&text.replace("in-toto", "cyclone"), None).contains("no statement"));
        assert!(wrong(&text.replace("[{", "[],\"x\":[{"), None).contains("no envelope"));
        assert!(
            wrong("{\"payload\":\"\",\"payloadType\":\"application/vnd.in-toto+json\",\"signatures\":[]}", None)
                .contains("0 signatures")
        );
    }
}
