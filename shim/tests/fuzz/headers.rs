//! The metadata of a request, as it comes off the wire.

use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus_client::registry::Registry;
use sluice_shim::contract::{
    CONTRACT_VERSION_HEADER, FIELD_SELECTOR_HEADER, GROUP_VERSION_HEADER, LABEL_SELECTOR_HEADER, SELECTOR_BYTES_LIMIT,
};
use sluice_shim::etcd::selection;
use sluice_shim::metrics::Metrics;
use tonic::metadata::MetadataMap;

use super::bounds::Bounds;
use super::driver::{Target, alone, kind};

/// Headers are copied once or twice, selectors are limited to 4 KiB.
const BOUNDS: Bounds = Bounds { memory: 4 << 20, memory_a_byte: 16 };

const WORDS: [&[u8]; 9] = [
    b"sluice-contract-version:1\n",
    b"sluice-label-selector:a=b\n",
    b"sluice-field-selector-bin:c3BlYy5jb2xvcj1ncmVlbg==\n",
    b"sluice-group-version:stable.example.com/v1\n",
    b":",
    b"\n",
    b"=",
    b"-bin",
    b",",
];

/// One header a line, its name before the first colon. HTTP/2 does not deliver what is no name or no value.
fn headers(input: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(1000) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(parts.next().unwrap_or_default())) {
            headers.append(name, value);
        }
    }
    headers
}

fn run(metrics: &Metrics, input: &[u8]) -> u64 {
    let headers = headers(input);
    let selectors = [LABEL_SELECTOR_HEADER, FIELD_SELECTOR_HEADER].map(|name| headers.get_all(name).iter().count());
    let label = headers.get(LABEL_SELECTOR_HEADER).map(|value| value.as_bytes().to_vec());
    let metadata = MetadataMap::from_headers(headers);
    let found = BOUNDS.hold(input.len(), || selection::from_metadata(&metadata, metrics));
    if found.is_some() {
        assert!(selectors != [0, 0] && selectors.iter().all(|count| *count <= 1), "from one selector of a kind");
        assert!(label.is_none_or(|label| label.len() <= SELECTOR_BYTES_LIMIT));
    }
    let requirements =
        found.map(|found| (found.label_requirements().len().min(3), found.field_requirements().len().min(3)));
    kind((selectors.map(|count| count.min(2)), requirements))
}

#[test]
fn request_headers() {
    let alone = alone();
    let line = |name: &str, value: &str| format!("{name}:{value}\n");
    let version = line(CONTRACT_VERSION_HEADER, "1");
    let label = line(LABEL_SELECTOR_HEADER, "color=green,size in (s,m),!old");
    let field = line(FIELD_SELECTOR_HEADER, "c3BlYy5jb2xvcj1ncmVlbg==");
    let group_version = line(GROUP_VERSION_HEADER, "stable.example.com/v1");
    let seeds =
        [format!("{version}{label}"), format!("{version}{label}{field}{group_version}"), format!("{version}{field}")];
    let metrics = Metrics::new(&mut Registry::default());
    let seeds = seeds.map(String::into_bytes).to_vec();
    Target { name: "headers", seeds, words: &WORDS, run: &|input| run(&metrics, input) }.fuzz(&alone);
}
