//! What the collector derives from the live values: the column `uid` and the table `owner`.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{Report, shown};
use crate::engine::store::Facets;
use crate::gc::Uid;
use crate::sql::Damage;
use crate::sql::sqlite::{clock, gc_schema};

/// How many rows are read at a time.
const PAGE: i64 = 1000;

/// The dependent in a row of `owner`: whether it has the label, whether it blocks, whether it waits.
type Flags = (bool, bool, bool);

fn derived(key: &[u8], what: &str) -> Damage {
    Damage { what: format!("key {}: {what}", shown(key)), derived: true }
}

/// A live value.
struct Live {
    id: i64,
    key: Vec<u8>,
    uid: Option<Vec<u8>>,
    facets: Facets,
}

fn live(row: &rusqlite::Row<'_>) -> rusqlite::Result<Live> {
    Ok(Live {
        id: row.get(0)?,
        key: row.get(1)?,
        uid: row.get(2)?,
        facets: gc_schema::graph(row.get_ref(3)?.as_blob()?),
    })
}

/// Compares both with the live values.
pub(super) fn check(connection: &Connection, report: &mut Report<'_>) -> rusqlite::Result<()> {
    let (mut last, mut rows) = (i64::MIN, 0);
    loop {
        let sql = "SELECT id, key, uid, value FROM current WHERE id > ?1 ORDER BY id LIMIT ?2";
        let mut statement = connection.prepare_cached(sql)?;
        let page: Vec<Live> = statement.query_map([last, PAGE], live)?.collect::<rusqlite::Result<_>>()?;
        let Some(end) = page.last() else { break };
        last = end.id;
        for Live { key, uid, facets, .. } in page {
            let node = facets.node.as_ref();
            if uid.as_deref() != node.map(|node| node.uid.to_blob()).as_deref() {
                let is =
                    uid.as_deref().and_then(Uid::from_blob).map_or_else(|| "none".to_owned(), |uid| uid.to_string());
                report(derived(&key, &format!("its row has another UID than the object: {is}")));
            }
            for edge in node.map_or(&[][..], |node| &node.owners) {
                let waits = node.is_some_and(|node| node.deletion.waits());
                let expected = (facets.hidden, edge.block, waits);
                if row_of(connection, &edge.owner, &key, facets.hidden)? == Some(expected) {
                    rows += 1;
                } else {
                    report(derived(&key, &format!("the table of owners misses {}", edge.owner)));
                }
            }
        }
    }
    let all: i64 = connection.query_row("SELECT count(*) FROM owner", [], |row| row.get(0))?;
    if all == rows { Ok(()) } else { superfluous(connection, report) }
}

fn row_of(connection: &Connection, owner: &Uid, key: &[u8], labelled: bool) -> rusqlite::Result<Option<Flags>> {
    let sql = "SELECT labelled, block, waits FROM owner WHERE owner_uid = ?1 AND labelled = ?2 AND key = ?3";
    connection
        .prepare_cached(sql)?
        .query_row(params![owner.to_blob(), labelled, key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()
}

/// Rows of `owner` that no live value has.
fn superfluous(connection: &Connection, report: &mut Report<'_>) -> rusqlite::Result<()> {
    let sql = "SELECT owner.owner_uid, owner.labelled, owner.key, current.value FROM owner LEFT JOIN current ON current.key = owner.key";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (owner, labelled, key): (Vec<u8>, bool, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let facets = row.get_ref(3)?.as_blob_or_null()?.map(gc_schema::graph).unwrap_or_default();
        let owners = facets.node.as_ref().map(|node| &node.owners);
        let expected = owners.is_some_and(|owners| owners.iter().any(|edge| *edge.owner.to_blob() == owner));
        if !expected || labelled != facets.hidden {
            let owner = Uid::from_blob(&owner).map_or_else(|| "an unreadable UID".to_owned(), |uid| uid.to_string());
            report(derived(&key, &format!("the table of owners has {owner}, which the object has not")));
        }
    }
    Ok(())
}

/// Builds both anew, in one transaction.
pub(super) fn rebuild(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch("DELETE FROM owner; UPDATE current SET uid = NULL WHERE uid IS NOT NULL;")?;
    let now = clock::kept(&transaction)?;
    gc_schema::fill(&transaction, now)?;
    transaction.commit()
}
