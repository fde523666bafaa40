//! Live keys, wherever they are found: one statement for a chunk of them.

use std::ops::ControlFlow;

use super::link::{Ask, Param};
use super::row::{Bounds, blob, blobs, columns, columns_without_value, int, ints, limit, row_ref};
use super::session::Session;
use crate::sql::failure::Result;
use crate::sql::session::{Find, Postings, Source, Take};

/// The fewest and the most keys of one statement. They come one after the other, whatever they weigh.
const CHUNK: (i64, i64) = (8, 4096);
/// How many keys of a list are looked up with one statement.
const KEYS: usize = 1000;

/// The entries of the index that a key must be among: one of each group.
#[derive(Default)]
struct Probes<'a> {
    names: Vec<i64>,
    values: Vec<&'a [u8]>,
    groups: Vec<i64>,
    count: i64,
}

impl<'a> Probes<'a> {
    fn of(probes: &'a [&'a [Postings]]) -> Self {
        let mut all = Self::default();
        for probe in probes {
            for Postings { name, value } in *probe {
                all.names.push(*name);
                all.values.push(value.as_bytes());
                all.groups.push(all.count);
            }
            all.count += 1;
        }
        all
    }

    /// The condition on a key, with parameters from a number on.
    fn condition(&self, key: &str, at: usize) -> String {
        if self.count == 0 {
            return String::new();
        }
        let (names, values, groups, count) = (at, at + 1, at + 2, at + 3);
        format!(
            "AND (SELECT count(DISTINCT p.g) FROM unnest(${names}::bigint[], ${values}::bytea[],
                ${groups}::bigint[]) p(n, v, g)
             JOIN attribute x ON x.name = p.n AND x.value = p.v AND x.key = {key}) = ${count}"
        )
    }

    fn params(&self) -> Vec<Param<'_>> {
        if self.count == 0 {
            return Vec::new();
        }
        vec![ints(&self.names), blobs(&self.values), ints(&self.groups), int(&self.count)]
    }
}

/// Reads live keys.
pub(super) fn find(session: &mut Session, find: &Find<'_>, take: &mut Take<'_>) -> Result<()> {
    let columns = if find.values { columns("c") } else { columns_without_value("c") };
    let probes = Probes::of(find.probes);
    match find.source {
        Source::Scan | Source::Visible => {
            let visible = if *find.source == Source::Visible { "AND NOT c.hidden" } else { "" };
            let sql = format!(
                "SELECT {columns} FROM current c WHERE c.key >= $1 AND c.key < $2 AND c.mod_revision <= $4 {visible}
                 ORDER BY c.key LIMIT $3"
            );
            chunks(session, find, take, ("scan", &sql), &[])
        }
        Source::Postings(lists) => {
            let names: Vec<i64> = lists.iter().map(|list| list.name).collect();
            let values: Vec<&[u8]> = lists.iter().map(|list| list.value.as_bytes()).collect();
            let sql = if lists.len() == 1 { one_list(&columns, &probes) } else { merged(&columns, &probes) };
            let mut params = match (&names[..], &values[..]) {
                ([name], [value]) => vec![int(name), blob(value)],
                _ => vec![ints(&names), blobs(&values)],
            };
            params.extend(probes.params());
            chunks(session, find, take, ("postings", &sql), &params)
        }
        Source::Keys(keys) => {
            let by = session.database.by_keys();
            let sql = format!(
                "SELECT {columns} FROM {} AND c.key >= $2 AND c.key < $3 AND c.mod_revision <= $4 {} ORDER BY {}",
                by.from,
                probes.condition("c.key", 5),
                by.order
            );
            let bounds = Bounds::of(find.range);
            for part in keys.chunks(find.wanted.clamp(8, KEYS)) {
                let part: Vec<&[u8]> = part.iter().map(Vec::as_slice).collect();
                let mut params = vec![blobs(&part), blob(&bounds.start), blob(&bounds.end), int(&find.until)];
                params.extend(probes.params());
                let (_, flow) = hand_on(session, &Ask::new("keys", &sql, params), take, &mut Vec::new())?;
                if flow.is_break() {
                    break;
                }
            }
            Ok(())
        }
    }
}

/// The keys of one list are in order already.
fn one_list(columns: &str, probes: &Probes<'_>) -> String {
    format!(
        "SELECT {columns} FROM attribute a JOIN current c ON c.key = a.key
         WHERE a.name = $5 AND a.value = $6 AND a.key >= $1 AND a.key < $2 AND c.mod_revision <= $4 {}
         ORDER BY a.key LIMIT $3",
        probes.condition("a.key", 7)
    )
}

/// Of each list the first keys are read, of all these the first are taken. A key may be in two lists.
fn merged(columns: &str, probes: &Probes<'_>) -> String {
    format!(
        "SELECT {columns} FROM (
            SELECT DISTINCT l.key FROM unnest($5::bigint[], $6::bytea[]) n(name, value)
            CROSS JOIN LATERAL (
                SELECT a.key FROM attribute a JOIN current u ON u.key = a.key
                WHERE a.name = n.name AND a.value = n.value AND a.key >= $1 AND a.key < $2 AND u.mod_revision <= $4 {}
                ORDER BY a.key LIMIT $3
            ) l ORDER BY l.key LIMIT $3
         ) k JOIN current c ON c.key = k.key ORDER BY k.key",
        probes.condition("a.key", 7)
    )
}

/// Asks for one chunk after the other, each behind the last key of the one before. The first parameters of the
/// statement are where to begin and to end, how many rows, and `until`; `more` come behind them.
fn chunks(
    session: &mut Session,
    find: &Find<'_>,
    take: &mut Take<'_>,
    (name, sql): (&'static str, &str),
    more: &[Param<'_>],
) -> Result<()> {
    let mut bounds = Bounds::of(find.range);
    let mut chunk = limit(find.wanted).clamp(CHUNK.0, CHUNK.1);
    let mut last = Vec::new();
    loop {
        let mut params = vec![blob(&bounds.start), blob(&bounds.end), int(&chunk), int(&find.until)];
        params.extend(more.iter().cloned());
        let (count, flow) = hand_on(session, &Ask::new(name, sql, params), take, &mut last)?;
        if flow.is_break() || limit(count) < chunk {
            return Ok(());
        }
        bounds.go_on_behind(&last);
        chunk = (chunk * 4).min(CHUNK.1);
    }
}

/// Hands rows on; returns how many came and whether to go on. `last`: the key of the last one.
fn hand_on(
    session: &mut Session,
    ask: &Ask<'_>,
    take: &mut Take<'_>,
    last: &mut Vec<u8>,
) -> Result<(usize, ControlFlow<()>)> {
    let mut flow = ControlFlow::Continue(());
    let count = session.on(|link| {
        link.each(ask, &mut |found| {
            let found = row_ref(&found, 0)?;
            found.key.clone_into(last);
            flow = take(found);
            Ok(flow)
        })
    })?;
    Ok((count, flow))
}
