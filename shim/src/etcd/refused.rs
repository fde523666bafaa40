//! Connections that are refused leave a line, but not so many that a scanner fills the disk (etcd:
//! server/embed/config_logging.go, `logTLSHandshakeFailureFunc`).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::{AlertDescription, CertificateError};

use crate::metrics::Metrics;

/// An address that is refused again for the same cause gets no second line for so long.
const QUIET: Duration = Duration::from_secs(60);
/// Lines for all addresses: so many at once, and one more after each pause. That is 17,000 a day at most.
const BURST: u32 = 20;
const PAUSE: Duration = Duration::from_secs(5);
/// How many addresses are remembered.
const REMEMBERED: usize = 1000;

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    NoCertificate,
    UnknownAuthority,
    BadCertificate,
    Distrusted,
    PlainToTls,
    TlsToPlain,
    Protocol,
    Closed,
    Timeout,
}

impl Cause {
    /// For people, with what to do.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::NoCertificate => "the client shows no certificate, and --trusted-ca-file asks for one",
            Self::UnknownAuthority => "the client's certificate is signed by an authority not in --trusted-ca-file",
            Self::BadCertificate => "the client's certificate is not valid",
            Self::Distrusted => "the client does not accept the certificate of this server (--cert-file)",
            Self::PlainToTls => "the client speaks no TLS, which this port does: it must use https://",
            Self::TlsToPlain => "the client speaks TLS, which this port does not: it must use http://",
            Self::Protocol => "the client and this server agree on no TLS",
            Self::Closed => "the client closed the connection during the TLS handshake",
            Self::Timeout => "the client did not finish the TLS handshake in time",
        }
    }

    /// For metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::UnknownAuthority => "unknown_authority",
            Self::BadCertificate => "bad_certificate",
            Self::Distrusted => "distrusted",
            Self::PlainToTls => "plain_to_tls",
            Self::TlsToPlain => "tls_to_plain",
            Self::Protocol => "protocol",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
        }
    }

    /// The cause of a failed handshake.
    fn of(error: &io::Error) -> Self {
        use rustls::Error;
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match tls {
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            // The second: by an authority that has the name of a trusted one, as an older one of the same cluster has.
            Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
                Self::UnknownAuthority
            }
            Some(Error::InvalidCertificate(_)) => Self::BadCertificate,
            Some(Error::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                // As above: the name is right, the signature is not.
                | AlertDescription::DecryptError,
            )) => Self::Distrusted,
            Some(_) => Self::Protocol,
            None if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            None => Self::Closed,
        }
    }
}

/// A connection that is refused.
#[derive(Debug)]
pub(super) struct Refused {
    cause: Cause,
    /// What the TLS library says.
    error: Option<io::Error>,
    /// The name that the client asked for.
    server_name: Option<String>,
}

impl Refused {
    pub(super) fn new(cause: Cause) -> Self {
        Self { cause, error: None, server_name: None }
    }

    pub(super) fn failed(error: io::Error, server_name: Option<String>) -> Self {
        Self { cause: Cause::of(&error), error: Some(error), server_name }
    }
}

/// Tells of refused connections.
#[derive(Debug)]
pub(super) struct Refusals {
    metrics: Metrics,
    told: Mutex<Told>,
}

impl Refusals {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, told: Mutex::new(Told::new(Instant::now())) }
    }

    /// Counts it, and writes a line unless there were too many.
    pub(super) fn tell(&self, address: Option<SocketAddr>, refused: &Refused) {
        let cause = refused.cause;
        self.metrics.refused_connection(cause.name());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(silent) = told.may_tell((address.map(|address| address.ip()), cause), Instant::now()) else { return };
        drop(told);
        tracing::warn!(
            remote_addr = address.map(|address| address.to_string()),
            server_name = refused.server_name,
            cause = cause.text(),
            error = refused.error.as_ref().map(ToString::to_string),
            // Those before, of this address and cause, or of others that found no room.
            not_logged = silent,
            "rejected connection on client endpoint"
        );
    }
}

type Who = (Option<IpAddr>, Cause);

/// What was told lately.
#[derive(Debug)]
struct Told {
    /// When each was told of last, and how often it came since.
    recent: HashMap<Who, (Instant, u64)>,
    /// How often others came for whom there was no room.
    others: u64,
    left: u32,
    refilled: Instant,
}

impl Told {
    fn new(now: Instant) -> Self {
        Self { recent: HashMap::new(), others: 0, left: BURST, refilled: now }
    }

    /// Whether to tell of it; then, how many were not told of since.
    fn may_tell(&mut self, who: Who, now: Instant) -> Option<u64> {
        if let Some((at, silent)) = self.recent.get_mut(&who)
            && now.saturating_duration_since(*at) < QUIET
        {
            *silent += 1;
            return None;
        }
        self.refill(now);
        if self.left == 0 || (self.recent.len() >= REMEMBERED && !self.recent.contains_key(&who)) {
            self.others += 1;
            return None;
        }
        self.left -= 1;
        let before = self.recent.insert(who, (now, 0)).map_or(0, |(_, silent)| silent);
        Some(before + std::mem::take(&mut self.others))
    }

    fn refill(&mut self, now: Instant) {
        let pauses = now.saturating_duration_since(self.refilled).as_secs() / PAUSE.as_secs();
        if pauses == 0 {
            return;
        }
        self.left = BURST.min(self.left.saturating_add(u32::try_from(pauses).unwrap_or(BURST)));
        self.refilled = now;
        let others = &mut self.others;
        self.recent.retain(|_, (at, silent)| {
            let keep = now.saturating_duration_since(*at) < QUIET;
            *others += if keep { 0 } else { *silent };
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(last: u8) -> Who {
        (Some(IpAddr::from([10, 0, 0, last])), Cause::NoCertificate)
    }

    #[test]
    fn a_client_that_tries_again_and_again_gets_a_line_a_minute() {
        let begin = Instant::now();
        let mut told = Told::new(begin);
        assert_eq!(told.may_tell(who(1), begin), Some(0));
        for second in 1..60 {
            assert_eq!(told.may_tell(who(1), begin + Duration::from_secs(second)), None);
        }
        assert_eq!(told.may_tell((who(1).0, Cause::Timeout), begin), Some(0), "another cause is another line");
        assert_eq!(told.may_tell(who(2), begin + QUIET), Some(59), "the count is not lost");
        assert_eq!(told.may_tell(who(1), begin + QUIET), Some(0));
    }

    #[test]
    fn a_scan_from_everywhere_is_bounded() {
        let begin = Instant::now();
        let mut told = Told::new(begin);
        let mut lines = 0;
        for number in 0..100_000_u32 {
            let address = Some(IpAddr::from(number.to_be_bytes()));
            lines += u32::from(told.may_tell((address, Cause::Protocol), begin).is_some());
        }
        assert_eq!(lines, BURST);
        assert_eq!(told.may_tell(who(1), begin + PAUSE), Some(u64::from(100_000 - BURST)));
        assert!(told.recent.len() <= REMEMBERED);
    }
}
