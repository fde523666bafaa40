//! Statements find their rows by an index, in its order, whatever the server knows of the tables.

use std::fmt::Write as _;

use super::model::{Model, Op};
use super::*;
use crate::sql::compared::requests;

/// N objects with two labels, and as much past.
const FILL: &str = "
    INSERT INTO current SELECT convert_to('/r/' || lpad(i::text, 7, '0'), 'UTF8'), 1, 1, i, 1, 0, i > 0,
        decode(md5(i::text), 'hex'), 'v'
        FROM generate_series(1, OBJECTS) i;
    INSERT INTO attribute SELECT n, convert_to((i % 3)::text, 'UTF8'), convert_to('/r/' || lpad(i::text, 7, '0'),
        'UTF8')
        FROM generate_series(1, OBJECTS) i, generate_series(1001, 1002) n;
    INSERT INTO change SELECT 1, i, false, convert_to('/r/' || lpad(i::text, 7, '0'), 'UTF8') FROM
        generate_series(1, OBJECTS) i;
    INSERT INTO history SELECT convert_to('/x/' || i, 'UTF8'), 1, 1, OBJECTS + i, 1, 0, 1, 2 * OBJECTS + i, true,
        'v' FROM generate_series(1, OBJECTS) i;
    INSERT INTO owner SELECT decode(md5((i / 9)::text), 'hex'), true, convert_to('/r/' || i, 'UTF8'), false, false
        FROM generate_series(1, OBJECTS) i;
    INSERT INTO directory SELECT convert_to('/d/' || i || '/', 'UTF8'), 1, 0, 0 FROM generate_series(1, OBJECTS) i;
    INSERT INTO lease SELECT i, 9, i FROM generate_series(1, OBJECTS) i;
    INSERT INTO attached SELECT i, 'x' FROM generate_series(1, OBJECTS) i;
    INSERT INTO gc_tombstone SELECT i, decode(md5(i::text), 'hex'), 'x', true, 1, i FROM generate_series(1, OBJECTS) i;
    UPDATE meta SET next_id = 10 * OBJECTS";

/// Does all that a server does with its requests.
fn exercise(session: &mut Session) {
    let mut model = Model::new();
    let batch = |value: &str| {
        vec![
            vec![Op::Put("/a/1", value.into(), 1), Op::Put("/a/2", value.into(), 0)],
            vec![Op::Put("/a/1", value.into(), 2)],
        ]
    };
    model.commit(session, &batch("h"), None);
    model.commit(session, &batch("v"), None);
    model.commit(session, &[vec![Op::Delete("/a/1"), Op::Delete("/a/2")]], None);
    requests(session, [(1001, "1"), (1001, "2"), (1002, "2")]);
}

/// What the script does with each text: EXPLAIN of a generic plan, which needs no values.
fn explained(name: &str, texts: &[(String, Vec<String>)]) -> String {
    // With values the plan would show the parts alone that may hold some.
    let mut script = format!("{}; SET enable_partition_pruning = off;\n", planner::lasting());
    for (at, (text, types)) in texts.iter().enumerate() {
        let nulls = vec!["NULL"; types.len()].join(", ");
        let (types, nulls) = if types.is_empty() {
            Default::default()
        } else {
            (format!("({})", types.join(", ")), format!("({nulls})"))
        };
        writeln!(script, "SELECT '=== {at}'; PREPARE p{at} {types} AS {text}; EXPLAIN EXECUTE p{at} {nulls};").unwrap();
    }
    Server::get().psql(name, &script).unwrap()
}

/// What is wrong with the plans of all statements of requests, in tables of a size.
fn wrong(layout: &Layout, objects: usize) -> String {
    let name = Server::get().database();
    drop(opened(&Address { layout: Some(layout.clone()), ..address(&name) }).unwrap());
    Server::get().psql(&name, &FILL.replace("OBJECTS", &objects.to_string())).unwrap();
    let (mut session, _) = opened(&address(&name)).unwrap();
    exercise(&mut session);
    let texts = session.on(|link| Ok(link.texts())).unwrap();
    assert!(texts.len() > 50, "{}", texts.len());
    let mut wrong = String::new();
    for plan in explained(&name, &texts).split("=== ").skip(1) {
        let (at, plan) = plan.split_once('\n').unwrap();
        let text = &texts[at.parse::<usize>().unwrap()].0;
        let scans = plan.contains("Seq Scan") || plan.contains("Bitmap");
        // Keys that come from several places are put in order; each place gives no more than are wanted. What merges
        // the parts of a table has a key as well, and sorts nothing.
        let several = ["DISTINCT", "ANY($1)", "unnest", "UNION ALL"].iter().any(|word| text.contains(word));
        let sorts = plan.contains("Sort  (cost") && !several;
        let visible = text.contains("NOT c.hidden") || text.contains("AND NOT hidden");
        // A part's index of visible keys has a name that the server makes.
        let by_visible = plan.contains("current_visible") || plan.contains("current_1_key_idx");
        if scans || sorts || visible && !by_visible {
            write!(wrong, "{text}\n{plan}\n").unwrap();
        }
    }
    wrong
}

#[test]
fn no_statement_of_a_request_reads_or_sorts_a_table() {
    for objects in [10, 100_000] {
        let wrong = wrong(&Layout::Whole, objects);
        assert!(wrong.is_empty(), "{objects} objects: {wrong}");
    }
}

/// The keys of [`FILL`] have a range of their own.
fn ranges() -> Layout {
    Layout::Ranges(["/r/", "/r0"].map(Into::into).to_vec())
}

#[test]
fn nor_does_one_of_a_partitioned_store() {
    for (layout, objects) in [(Layout::Hashed(3), 10), (Layout::Hashed(3), 30_000), (ranges(), 10), (ranges(), 30_000)]
    {
        let wrong = wrong(&layout, objects);
        assert!(wrong.is_empty(), "{layout}, {objects} objects: {wrong}");
    }
}

/// Which parts of `current` a statement looks into when it is carried out.
fn looked_into(name: &str, text: &str, types: &[String], values: &str) -> Vec<String> {
    let script = format!(
        "{}; PREPARE p ({}) AS {text}; EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE p ({values})",
        planner::lasting(),
        types.join(", ")
    );
    let plan = Server::get().psql(name, &script).unwrap();
    let of_part =
        |line: &str| line.split(" on current_").nth(1).and_then(|rest| Some(rest.split(' ').next()?.to_owned()));
    let read = plan.lines().filter(|line| line.contains("Scan") && !line.contains("never executed"));
    let mut parts: Vec<String> = read.filter_map(of_part).collect();
    parts.sort_unstable();
    parts.dedup();
    parts
}

#[test]
fn a_list_of_a_resource_and_a_get_look_into_one_partition() {
    let bounds = "'/r/', '/r0', 20, 9223372036854775807";
    let keys = "ARRAY['/r/0000007', '/r/0000008']::bytea[]";
    for layout in [ranges(), Layout::Hashed(3)] {
        let name = Server::get().database();
        drop(opened(&Address { layout: Some(layout.clone()), ..address(&name) }).unwrap());
        Server::get().psql(&name, &FILL.replace("OBJECTS", "1000")).unwrap();
        let (mut session, _) = opened(&address(&name)).unwrap();
        exercise(&mut session);
        let texts = session.on(|link| Ok(link.texts())).unwrap();
        let parts = |words: &[&str], values: &str| {
            let is = |text: &str| words.iter().all(|word| text.contains(word)) && !text.contains("count(DISTINCT");
            let (text, types) = texts.iter().find(|(text, _)| is(text)).unwrap();
            looked_into(&name, text, types, values)
        };
        let one_key = &keys.replace(", '/r/0000008'", "");
        assert_eq!(parts(&["FROM meta LEFT JOIN (unnest"], one_key).len(), 1, "a get, {layout}");
        assert_eq!(parts(&["SELECT m.revision", "LEFT JOIN (unnest"], one_key).len(), 1, "a commit, {layout}");
        assert_eq!(parts(&["DELETE FROM current"], one_key).len(), 1, "a deletion, {layout}");
        let lists = [
            (&["FROM current c WHERE c.key >= $1", "ORDER BY c.key LIMIT $3"][..], bounds.to_owned()),
            (&["NOT c.hidden", "ORDER BY c.key LIMIT $3"], bounds.to_owned()),
            (&["FROM attribute a JOIN current c", "ORDER BY a.key LIMIT $3"], format!("{bounds}, 1001, '1'")),
            (&["SELECT DISTINCT key FROM unnest($1::bytea[])", "c.key >= $2"], format!("{keys}, '/r/', '/r0', 9")),
        ];
        for (words, values) in lists {
            let found = parts(words, &values);
            // A hash spreads a list over all.
            let expected = if layout == ranges() { found == ["1"] } else { !found.is_empty() };
            assert!(expected, "{words:?}, {layout}: {found:?}");
        }
    }
}

/// With a plan for each array a get took the server twice the time.
#[test]
fn a_statement_is_planned_once() {
    let (mut session, _) = opened(&address(&Server::get().database())).unwrap();
    exercise(&mut session);
    let sql = "SELECT statement, custom_plans FROM pg_prepared_statements WHERE custom_plans > 0";
    let found = session.ask(link::Ask::new("plans", sql, vec![])).unwrap();
    let planned: Vec<String> = found.iter().map(|row| row.get(0)).collect();
    assert!(planned.is_empty(), "{planned:#?}");
}
