//! The certificate authorities that programs in the images trust.

/// Mozilla's roots for TLS servers, as `/etc/ssl/certs/ca-certificates.crt`. They come with a crate that Cargo.lock
/// pins, not from this machine: a build machine may trust a proxy of its company, and no image may.
pub(crate) fn pem_bundle() -> Vec<u8> {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let mut certificates: Vec<_> = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(AsRef::<[u8]>::as_ref).collect();
    certificates.sort_unstable();
    let encode = |der: &[u8]| pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config);
    certificates.into_iter().map(encode).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_is_certificates_only() {
        let bundle = pem::parse_many(pem_bundle()).unwrap();
        assert_eq!(bundle.len(), webpki_root_certs::TLS_SERVER_ROOT_CERTS.len());
        assert!(bundle.len() > 50);
        assert!(bundle.iter().all(|certificate| certificate.tag() == "CERTIFICATE"));
    }
}
