//! Keys by their labels, and what the planner asks.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::Tables;
use super::store::{commit, create, serve};
use crate::engine::KeyRange;
use crate::sql::session::{
    Audit as _, Commit as _, Delta, Field, Find, IndexChange, IndexState, Odd, Posting, PostingRow, Postings,
    Probe as _, Read as _, Source,
};

fn range(start: &str, end: &str) -> KeyRange {
    KeyRange::from_wire(Bytes::copy_from_slice(start.as_bytes()), Bytes::copy_from_slice(end.as_bytes()))
}

fn postings(name: i64, value: &str) -> Postings {
    Postings { name, value: value.into() }
}

fn found(tables: &mut Tables, source: &Source, range: &KeyRange, probes: &[&[Postings]], most: usize) -> Vec<String> {
    let mut keys = Vec::new();
    let find = Find { range, source, probes, until: i64::MAX, values: true, wanted: most };
    tables
        .find(&find, &mut |row| {
            assert_eq!(row.key, row.value);
            keys.push(String::from_utf8(row.key.to_vec()).unwrap());
            if keys.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    keys
}

/// Three hundred keys, with a color of three, a size of a hundred, and a place of three hundred.
fn shirts() -> (Tables, Vec<String>) {
    let mut tables = serve();
    let keys: Vec<String> = (0..300).map(|number| format!("/r/{}/{number:03}", number % 2)).collect();
    let rows: Vec<_> =
        keys.iter().enumerate().map(|(at, key)| (&key[..], (at % 7 != 0).then_some(at % 5 == 0), None)).collect();
    create(&mut tables, &rows);
    let values: Vec<[String; 3]> =
        (0..300).map(|at| [format!("color{}", at % 3), format!("size{}", at / 3), format!("place{at}")]).collect();
    let new = keys.iter().zip(&values).flat_map(|(key, values)| {
        values.iter().zip(1..).map(|(value, name)| PostingRow { name, value, key: key.as_bytes() })
    });
    let directories: BTreeMap<&[u8], [i64; 3]> = [(&b"/r/0/"[..], [150, 22, 3]), (b"/r/1/", [150, 21, 0])].into();
    commit(&mut tables, &Delta { postings_new: new.collect(), directories, ..Delta::default() });
    (tables, keys)
}

#[test]
fn keys_are_found_from_everywhere_in_order_and_once() {
    let (mut tables, keys) = shirts();
    let all = range("/r/", "/r0");
    let half = range("/r/1/", "/r/10");
    let sorted = |wanted: &dyn Fn(usize) -> bool, range: &KeyRange| {
        let keys = keys.iter().enumerate().filter(|(at, key)| wanted(*at) && range.contains(key.as_bytes()));
        let mut keys: Vec<String> = keys.map(|(_, key)| key.clone()).collect();
        keys.sort();
        keys
    };
    let colors = |numbers: &[usize]| -> Vec<Postings> {
        numbers.iter().map(|color| postings(1, &format!("color{color}"))).collect()
    };
    let sizes: Vec<Postings> = (0..60).map(|size| postings(2, &format!("size{size}"))).collect();
    let named: Vec<Vec<u8>> = {
        let mut named: Vec<_> = keys.iter().map(|key| key.clone().into_bytes()).collect();
        named.push(b"/r/1/x".to_vec());
        named.sort();
        named
    };
    let red = colors(&[0]);
    type Wanted<'a> = Box<dyn Fn(usize) -> bool + 'a>;
    let table: [(Source, Vec<&[Postings]>, Wanted<'_>); 8] = [
        (Source::Scan, vec![], Box::new(|_| true)),
        (Source::Visible, vec![], Box::new(|at| at % 7 != 0 && at % 5 != 0)),
        (Source::Postings(colors(&[1])), vec![], Box::new(|at| at % 3 == 1)),
        (Source::Postings(colors(&[0, 2])), vec![], Box::new(|at| at % 3 != 1)),
        // The same list twice, and one that is empty.
        (Source::Postings([colors(&[2, 2]), vec![postings(9, "x")]].concat()), vec![], Box::new(|at| at % 3 == 2)),
        (Source::Postings(sizes.clone()), vec![&red], Box::new(|at| at / 3 < 60 && at % 3 == 0)),
        (Source::Postings(red.clone()), vec![&sizes[..4], &red], Box::new(|at| at / 3 < 4 && at % 3 == 0)),
        (Source::Keys(named), vec![&red], Box::new(|at| at % 3 == 0)),
    ];
    for (source, probes, wanted) in &table {
        for range in [&all, &half] {
            let expected = sorted(wanted, range);
            for most in [1, 17, usize::MAX] {
                let told = found(&mut tables, source, range, probes, most);
                assert_eq!(told, expected[..most.min(expected.len())], "{source:?} {most}");
            }
            if probes.is_empty() {
                let counts = [(source, 7), (source, 10_000)];
                let counted = tables.counts(range, &counts).unwrap();
                let twice = matches!(source, Source::Postings(lists) if lists.len() == 3);
                let count = expected.len() as i64 * if twice { 2 } else { 1 };
                assert_eq!(counted, [count.min(7), count], "{source:?}");
            }
        }
    }
}

#[test]
fn the_planner_is_told_what_there_is() {
    let (mut tables, keys) = shirts();
    let all = range("/r/", "/r0");
    let mut places: Vec<String> = (0..300).map(|at| format!("place{at}")).collect();
    places.sort();
    assert_eq!(tables.values(1, 64).unwrap().unwrap(), ["color0", "color1", "color2"]);
    let mut sizes: Vec<String> = (0..100).map(|size| format!("size{size}")).collect();
    sizes.sort();
    assert_eq!(tables.values(2, 100).unwrap(), Some(sizes));
    assert_eq!((tables.values(2, 99).unwrap(), tables.values(8, 5).unwrap()), (None, Some(vec![])));
    let mut entries = Vec::new();
    assert!(tables.entries(3, 300, &mut |value, key| entries.push((value.to_owned(), key.to_vec()))).unwrap());
    let expected = keys.iter().enumerate().map(|(at, key)| (format!("place{at}"), key.clone().into_bytes()));
    let mut expected: Vec<_> = expected.collect();
    expected.sort();
    entries.sort();
    assert_eq!(entries, expected);
    assert!(!tables.entries(3, 299, &mut |_, _| {}).unwrap());
    assert_eq!(tables.entries_count(1).unwrap(), 300);
    assert_eq!((tables.odd(&all, &[], Odd::Opaque).unwrap(), tables.odd(&all, &[], Odd::Misplaced).unwrap()), (43, 3));
    assert_eq!(tables.odd(&range("/r/1/", "/r/10"), &[b"/r/0/"], Odd::Opaque).unwrap(), 43);
    assert_eq!(tables.directories(&all, 1).unwrap(), [b"/r/0/"]);
    assert_eq!(
        (tables.live(b"/r/").unwrap(), tables.live(b"/r/1/").unwrap(), tables.live(b"/x/").unwrap()),
        (300, 150, 0)
    );
    assert_eq!((tables.count(&all).unwrap(), tables.count(&range("/r/0/1", "/r/1/0")).unwrap()), (300, 100));
    assert!(tables.tells_visible().unwrap());
}

#[test]
fn names_and_indexes_have_numbers_of_their_own() {
    let mut tables = serve();
    assert_eq!(tables.label("color").unwrap(), None);
    tables.begin(&Default::default()).unwrap();
    assert_eq!(tables.labels(&["color", "siz\u{e9}"]).unwrap(), [1, 2]);
    tables.rollback();
    let begun = tables.begin(&Default::default()).unwrap();
    tables.labels(&["color"]).unwrap();
    let add = |field: &str| IndexChange::Add {
        prefix: "/r/g/s/".into(),
        api_version: "g/v1".into(),
        field: field.into(),
        state: IndexState::Building,
    };
    let delta = Delta { indexes: vec![add("spec.a"), add("spec.b")], ..Delta::default() };
    tables.apply(&delta, Some(&super::store::next(&begun))).unwrap();
    assert_eq!((tables.label("color").unwrap(), tables.label("size").unwrap()), (Some(1), None));
    assert_eq!(tables.label_of(1).unwrap().as_deref(), Some("color"));
    let field = Field { api_version: "g/v1", field: "spec.b" };
    let index = tables.index(&[b"/r/g/", b"/r/g/s/"], field).unwrap().unwrap();
    assert_eq!((index.index.id, index.state, &index.cursor[..]), (3, IndexState::Building, &b"/r/g/s/"[..]));
    let changes = vec![
        IndexChange::Set { id: 3, state: IndexState::Ready, cursor: b"/r/g/s/x".to_vec(), objects: 7 },
        IndexChange::Set { id: 2, state: IndexState::Dropping, cursor: vec![], objects: 0 },
    ];
    let entries: Vec<_> = ["a", "b", "c"].map(|value| PostingRow { name: -4, value, key: b"k" }).to_vec();
    commit(&mut tables, &Delta { indexes: changes, postings_new: entries.clone(), ..Delta::default() });
    assert_eq!(tables.has_postings(&[entries[1], PostingRow { name: -5, ..entries[1] }]).unwrap(), [true, false]);
    let after = Posting { name: -4, value: "a".into(), key: b"k".to_vec() };
    assert_eq!(tables.postings_after(&after, 1).unwrap(), [Posting { value: "b".into(), ..after.clone() }]);
    let states: Vec<_> =
        tables.indexes().unwrap().into_iter().map(|index| (index.index.id, index.state, index.objects)).collect();
    assert_eq!(states, [(2, IndexState::Dropping, 0), (3, IndexState::Ready, 7)]);
    let gone = Field { api_version: "g/v1", field: "spec.a" };
    assert!(tables.index(&[b"/r/g/s/"], gone).unwrap().is_none());
    tables.remove_index(2, 2).unwrap();
    assert_eq!((tables.entries_count(-4).unwrap(), tables.indexes().unwrap().len()), (1, 2));
    tables.remove_index(2, 2).unwrap();
    assert_eq!((tables.entries_count(-4).unwrap(), tables.indexes().unwrap().len()), (0, 1));
}
