//! A row for every flag.

use super::kinds::Kind;

/// A flag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// The words before it, without a command for the server.
    pub(crate) command: &'static str,
    /// The flag; a word without dashes for an argument that has its place.
    pub(crate) flag: &'static str,
    /// What it takes.
    pub(crate) kind: Kind,
    /// What else must be given for it to work.
    pub(crate) with: &'static [&'static str],
}

const fn row(flag: &'static str, kind: Kind) -> Row {
    Row { command: "", flag, kind, with: &[] }
}

impl Row {
    const fn of(mut self, command: &'static str) -> Self {
        self.command = command;
        self
    }

    const fn with(mut self, with: &'static [&'static str]) -> Self {
        self.with = with;
        self
    }
}

const PASSWORD_FILE: &str = "--endpoint-password-file";
const UNSAFE: &str = "--allow-unsafe-database";
const MAIN: &str = "--definitions-from=https://127.0.0.1:1";
const MAIN_AUTHORITY: &str = "--definitions-cacert=cert.pem";
const LARGE: &str = "from 1 to 4294967295";
const TO_I64: &str = "from 0 to 9223372036854775807";
const POSITIVE: &str = "needs a duration of at least 1ms";
const OR_ZERO: &str = "needs 0 or a duration of at least 1ms";
const SWITCH: Kind = Kind::Word(&["on", "off"]);
const SELECTOR: Kind = Kind::Language("color=green", &[("", 2, "--selector"), ("a in (", 2, "--selector")]);

pub(crate) fn rows() -> Vec<Row> {
    [server(), commands()].concat()
}

fn server() -> Vec<Row> {
    vec![
        row("--endpoint", Kind::Database),
        row(PASSWORD_FILE, Kind::Password),
        row(UNSAFE, Kind::Bool),
        row("--read-endpoint", Kind::Copy),
        row("--partition-by", Kind::PartitionBy),
        row("--partition", Kind::Partition).with(&["--partition-by=resource"]),
        row("--partitions", Kind::Partitions),
        row("--name", Kind::Text),
        row("--listen-client-urls", Kind::Listen),
        row("--advertise-client-urls", Kind::Advertise),
        row("--listen-metrics-urls", Kind::Listen),
        row("--cert-file", Kind::Read("cert.pem")).with(&["--key-file=key.pem"]),
        row("--key-file", Kind::Read("key.pem")).with(&["--cert-file=cert.pem"]),
        row("--trusted-ca-file", Kind::Read("cert.pem")).with(&["--cert-file=cert.pem", "--key-file=key.pem"]),
        row("--client-cert-auth", Kind::Bool).with(&[
            "--cert-file=cert.pem",
            "--key-file=key.pem",
            "--trusted-ca-file=cert.pem",
        ]),
        row("--standby", Kind::Standby),
        row("--peer-auto-tls", Kind::WithStandby),
        row("--peer-auto-tls-dir", Kind::Text).with(&["--peer-auto-tls=false"]),
        row("--peer-trusted-ca-file", Kind::Read("cert.pem")),
        row("--peer-cert-file", Kind::Read("cert.pem")).with(&["--peer-key-file=key.pem"]),
        row("--peer-key-file", Kind::Read("key.pem")).with(&["--peer-cert-file=cert.pem"]),
        row("--watch-progress-notify-interval", Kind::Duration(POSITIVE)),
        row("--max-txn-ops", Kind::Number(&["1", "4294967295"], LARGE)),
        row("--max-request-bytes", Kind::Number(&["1000", "536870912"], "from 1 to 536870912")),
        row("--max-concurrent-streams", Kind::Number(&["1", "0", "4294967295"], "from 0 to 4294967295")),
        row("--grpc-keepalive-interval", Kind::Duration(OR_ZERO)),
        row("--grpc-keepalive-timeout", Kind::Duration(OR_ZERO)),
        row("--quota-backend-bytes", Kind::Number(&["100000000", "0", "9223372036854775807"], TO_I64)),
        row("--snapshot-dir", Kind::Folder),
        row("--definitions-from", Kind::MainStore),
        row("--definitions-cacert", Kind::Read("cert.pem")).with(&[MAIN]),
        row("--definitions-cert", Kind::Read("cert.pem")).with(&[MAIN, MAIN_AUTHORITY, "--definitions-key=key.pem"]),
        row("--definitions-key", Kind::Read("key.pem")).with(&[MAIN, MAIN_AUTHORITY, "--definitions-cert=cert.pem"]),
        row("--gc", SWITCH),
        row("--gc-rate", Kind::Number(&["1", "4294967295"], LARGE)),
        row("--gc-tombstone-ttl", Kind::Duration(POSITIVE)),
        row("--gc-strict-foreground", SWITCH),
        row("--gc-typed-groups", Kind::Groups),
        row("--gc-ignored", Kind::Kinds),
        row("--gc-audit-log", Kind::Write),
        row("--log-level", Kind::LogLevel),
        row("--log-format", Kind::Word(&["text", "json"])),
    ]
}

fn commands() -> Vec<Row> {
    vec![
        row("--from", Kind::Read("kept.snapshot")).of("restore"),
        row("--endpoint", Kind::Database).of("restore"),
        row(PASSWORD_FILE, Kind::Password).of("restore"),
        row(UNSAFE, Kind::Bool).of("restore"),
        row("--bump-revision", Kind::Number(&["5", "1000000000"], TO_I64)).of("restore").with(&["--mark-compacted"]),
        row("--mark-compacted", Kind::Switch).of("restore").with(&["--bump-revision=5"]),
        row("--skip-hash-check", Kind::Switch).of("restore"),
        row("--from-etcd", Kind::Source).of("import"),
        row("--cacert", Kind::Read("cert.pem")).of("import"),
        row("--cert", Kind::Read("cert.pem")).of("import").with(&["--cacert=cert.pem", "--key=key.pem"]),
        row("--key", Kind::Read("key.pem")).of("import").with(&["--cacert=cert.pem", "--cert=cert.pem"]),
        row("--endpoint", Kind::Database).of("import"),
        row(PASSWORD_FILE, Kind::Password).of("import"),
        row(UNSAFE, Kind::Bool).of("import"),
        row("--endpoint", Kind::ExistingDatabase).of("export"),
        row(PASSWORD_FILE, Kind::Password).of("export"),
        row(UNSAFE, Kind::Bool).of("export"),
        row("--to", Kind::Write).of("export"),
        row("target", Kind::Target).of("migrate-to"),
        row("--target-password-file", Kind::Password).of("migrate-to"),
        row("--endpoint", Kind::ExistingDatabase).of("migrate-to"),
        row(PASSWORD_FILE, Kind::Password).of("migrate-to"),
        row(UNSAFE, Kind::Bool).of("migrate-to"),
        // A millisecond may be too little.
        row("--longest-wait", Kind::Duration(POSITIVE)).of("migrate-to").with(&["--dry-run"]),
        row("--dry-run", Kind::Switch).of("migrate-to"),
        row("target", Kind::Target).of("move-group"),
        row("--target-password-file", Kind::Password).of("move-group"),
        row("--endpoint", Kind::ExistingDatabase).of("move-group"),
        row(PASSWORD_FILE, Kind::Password).of("move-group"),
        row(UNSAFE, Kind::Bool).of("move-group"),
        row("--prefix", Kind::Prefixes).of("move-group"),
        row("--accept-uncollected", Kind::Switch).of("move-group"),
        row("--dry-run", Kind::Switch).of("move-group"),
        row("--endpoint", Kind::ExistingDatabase).of("fsck"),
        row(PASSWORD_FILE, Kind::Password).of("fsck"),
        row(UNSAFE, Kind::Bool).of("fsck"),
        row("--repair", Kind::Switch).of("fsck"),
        row("--accept-lost-log", Kind::Switch).of("fsck"),
        row("--endpoint", Kind::ExistingDatabase).of("accept-rollback"),
        row(PASSWORD_FILE, Kind::Password).of("accept-rollback"),
        row(UNSAFE, Kind::Bool).of("accept-rollback"),
        row("--bump-revision", Kind::Number(&["5", "1000000000"], "from 1 to 9223372036854775807"))
            .of("accept-rollback"),
        row("--endpoint", Kind::ExistingDatabase).of("partition"),
        row(PASSWORD_FILE, Kind::Password).of("partition"),
        row(UNSAFE, Kind::Bool).of("partition"),
        row("--partition-by", Kind::PartitionBy).of("partition"),
        row("--partition", Kind::Partition).of("partition").with(&["--partition-by=resource"]),
        row("--partitions", Kind::Partitions).of("partition"),
        row("--endpoint", Kind::ExistingDatabase).of("explain"),
        row(PASSWORD_FILE, Kind::Password).of("explain"),
        row(UNSAFE, Kind::Bool).of("explain"),
        row("--prefix", Kind::PREFIX).of("explain"),
        row("--selector", SELECTOR).of("explain"),
        row(
            "--field-selector",
            Kind::Language("metadata.name=a", &[("metadata.name", 2, "--field-selector"), ("", 2, "--field-selector")]),
        )
        .of("explain")
        .with(&["--group-version=a/v1"]),
        row("--group-version", Kind::Language("example.com/v1", &[("", 2, "--group-version")])).of("explain"),
        row("--limit", Kind::Number(&["0", "5", "9223372036854775807"], TO_I64)).of("explain"),
        row("--endpoint", Kind::ExistingDatabase).of("instances"),
        row(PASSWORD_FILE, Kind::Password).of("instances"),
        row(UNSAFE, Kind::Bool).of("instances"),
        row("--endpoint", Kind::ExistingDatabase).of("gc status"),
        row(PASSWORD_FILE, Kind::Password).of("gc status"),
        row(UNSAFE, Kind::Bool).of("gc status"),
        row("key", Kind::Language("/registry/a/b", &[("", 2, "<KEY>")])).of("gc explain"),
        row("--endpoint", Kind::ExistingDatabase).of("gc explain"),
        row(PASSWORD_FILE, Kind::Password).of("gc explain"),
        row(UNSAFE, Kind::Bool).of("gc explain"),
        row("--gc-typed-groups", Kind::Groups).of("gc explain"),
        row("--gc-ignored", Kind::Kinds).of("gc explain"),
    ]
}
