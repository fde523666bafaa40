//! Splits a watch response that is too big for a client (etcd: server/etcdserver/api/v3rpc/watch.go, `sendFragments`).

use std::collections::VecDeque;

use prost::Message;
use prost::encoding::{encoded_len_varint, key_len};

use crate::pb::etcdserverpb::WatchResponse;
use crate::pb::mvccpb::Event;

/// The field number of `WatchResponse.events`.
const EVENTS_FIELD: u32 = 11;

/// Puts the response into the queue: whole if it is smaller than `max_bytes` or has one event, else in parts that are
/// smaller (but never without an event), all but the last marked as fragments.
pub(super) fn push(response: WatchResponse, max_bytes: usize, queue: &mut VecDeque<WatchResponse>) {
    if response.events.len() < 2 || response.encoded_len() < max_bytes {
        queue.push_back(response);
        return;
    }
    let WatchResponse { events, .. } = response;
    let empty = WatchResponse { events: vec![], fragment: true, ..response };
    let base = empty.encoded_len();
    let mut size = base;
    let mut part = empty.clone();
    for event in events {
        let event_size = size_in_response(&event);
        if !part.events.is_empty() && size + event_size >= max_bytes {
            queue.push_back(std::mem::replace(&mut part, empty.clone()));
            size = base;
        }
        size += event_size;
        part.events.push(event);
    }
    part.fragment = false;
    queue.push_back(part);
}

fn size_in_response(event: &Event) -> usize {
    let size = event.encoded_len();
    key_len(EVENTS_FIELD) + encoded_len_varint(size as u64) + size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::ResponseHeader;
    use crate::pb::mvccpb::KeyValue;

    fn event(bytes: usize) -> Event {
        let kv = KeyValue { key: "k".into(), value: vec![b'v'; bytes].into(), ..Default::default() };
        Event { kv: Some(kv), ..Default::default() }
    }

    fn response(sizes: &[usize]) -> WatchResponse {
        let header = Some(ResponseHeader { revision: 5, ..Default::default() });
        WatchResponse { header, watch_id: 3, events: sizes.iter().map(|n| event(*n)).collect(), ..Default::default() }
    }

    #[test]
    fn parts() {
        // What is sent, as numbers of events in each part; a limit of 1000 bytes.
        let table: [(&[usize], &[usize]); 7] = [
            (&[], &[0]),
            (&[10], &[1]),
            (&[5000], &[1]),
            (&[10, 10], &[2]),
            (&[600, 600, 600], &[1, 1, 1]),
            (&[400, 400, 400], &[2, 1]),
            (&[10, 5000, 10], &[1, 1, 1]),
        ];
        for (sizes, expected) in table {
            let mut queue = VecDeque::new();
            push(response(sizes), 1000, &mut queue);
            assert_eq!(queue.iter().map(|part| part.events.len()).collect::<Vec<_>>(), expected, "{sizes:?}");
            for (i, part) in queue.iter().enumerate() {
                assert_eq!(part.fragment, i + 1 < queue.len(), "{sizes:?}, part {i}");
                assert_eq!((part.watch_id, part.header.unwrap().revision), (3, 5));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_and_no_part_is_too_big(sizes in proptest::collection::vec(0usize..600, 0..40)) {
            let whole = response(&sizes);
            let mut queue = VecDeque::new();
            push(whole.clone(), 1000, &mut queue);
            let joined: Vec<_> = queue.iter().flat_map(|part| part.events.clone()).collect();
            proptest::prop_assert_eq!(joined, whole.events);
            for part in &queue {
                proptest::prop_assert!(part.encoded_len() < 1000 || part.events.len() == 1);
            }
        }
    }
}
