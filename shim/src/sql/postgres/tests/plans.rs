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

#[test]
fn no_statement_of_a_request_reads_or_sorts_a_table() {
    for objects in [10, 100_000] {
        let name = Server::get().database();
        drop(opened(&address(&name)).unwrap());
        Server::get().psql(&name, &FILL.replace("OBJECTS", &objects.to_string())).unwrap();
        let (mut session, _) = opened(&address(&name)).unwrap();
        exercise(&mut session);
        let texts = session.on(|link| Ok(link.texts())).unwrap();
        assert!(texts.len() > 50, "{}", texts.len());
        let mut script = format!("{};\n", planner::lasting());
        for (at, (text, types)) in texts.iter().enumerate() {
            let nulls = vec!["NULL"; types.len()].join(", ");
            let (types, nulls) = if types.is_empty() {
                Default::default()
            } else {
                (format!("({})", types.join(", ")), format!("({nulls})"))
            };
            writeln!(script, "SELECT '=== {at}'; PREPARE p{at} {types} AS {text}; EXPLAIN EXECUTE p{at} {nulls};")
                .unwrap();
        }
        let explained = Server::get().psql(&name, &script).unwrap();
        let mut wrong = String::new();
        for plan in explained.split("=== ").skip(1) {
            let (at, plan) = plan.split_once('\n').unwrap();
            let text = &texts[at.parse::<usize>().unwrap()].0;
            let scans = plan.contains("Seq Scan") || plan.contains("Bitmap");
            // Keys that come from several places are put in order; each place gives no more than are wanted.
            let several = ["DISTINCT", "ANY($1)", "unnest", "UNION ALL"].iter().any(|word| text.contains(word));
            let sorts = plan.contains("Sort") && !several;
            let visible = text.contains("NOT c.hidden") || text.contains("AND NOT hidden");
            if scans || sorts || visible && !plan.contains("current_visible") {
                write!(wrong, "{text}\n{plan}\n").unwrap();
            }
        }
        assert!(wrong.is_empty(), "{objects} objects: {wrong}");
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
