//! Rows of a statement, one array for each column.

use std::borrow::Cow;

use tokio_postgres::types::Type;

use super::link::Param;

/// What a column holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Int,
    Blob,
    Flag,
}

/// A value of a column.
#[derive(Debug)]
pub(super) enum Cell<'a> {
    Int(i64),
    Blob(Option<Cow<'a, [u8]>>),
    Flag(Option<bool>),
}

impl From<i64> for Cell<'_> {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Cell<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(Some(flag))
    }
}

impl From<Option<bool>> for Cell<'_> {
    fn from(flag: Option<bool>) -> Self {
        Self::Flag(flag)
    }
}

impl<'a> From<&'a [u8]> for Cell<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Blob(Some(Cow::Borrowed(bytes)))
    }
}

impl<'a> From<Cow<'a, [u8]>> for Cell<'a> {
    fn from(bytes: Cow<'a, [u8]>) -> Self {
        Self::Blob(Some(bytes))
    }
}

impl<'a> From<Option<Cow<'a, [u8]>>> for Cell<'a> {
    fn from(bytes: Option<Cow<'a, [u8]>>) -> Self {
        Self::Blob(bytes)
    }
}

#[derive(Debug)]
enum Column<'a> {
    Ints(Vec<i64>),
    Blobs(Vec<Option<Cow<'a, [u8]>>>),
    Flags(Vec<Option<bool>>),
}

/// Rows.
#[derive(Debug)]
pub(super) struct Set<'a> {
    names: &'static [(&'static str, Kind)],
    columns: Vec<Column<'a>>,
    len: usize,
}

impl<'a> Set<'a> {
    pub(super) fn new(names: &'static [(&'static str, Kind)]) -> Self {
        let column = |(_, kind): &(&str, Kind)| match kind {
            Kind::Int => Column::Ints(Vec::new()),
            Kind::Blob => Column::Blobs(Vec::new()),
            Kind::Flag => Column::Flags(Vec::new()),
        };
        Self { names, columns: names.iter().map(column).collect(), len: 0 }
    }

    /// Adds a row, whose cells are of the kinds of the columns.
    pub(super) fn push<const N: usize>(&mut self, cells: [Cell<'a>; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.len += 1;
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            match (column, cell) {
                (Column::Ints(all), Cell::Int(number)) => all.push(number),
                (Column::Blobs(all), Cell::Blob(bytes)) => all.push(bytes),
                (Column::Flags(all), Cell::Flag(flag)) => all.push(flag),
                // The server refuses columns of different lengths with a row of NULLs.
                (column, cell) => debug_assert!(false, "{cell:?} is not of {column:?}"),
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rows as a table `t` of a statement's FROM.
    pub(super) fn table(&self) -> String {
        let arrays = (1..).zip(self.names).map(|(at, (_, kind))| match kind {
            Kind::Int => format!("${at}::bigint[]"),
            Kind::Blob => format!("${at}::bytea[]"),
            Kind::Flag => format!("${at}::boolean[]"),
        });
        format!("unnest({}) t({})", arrays.collect::<Vec<_>>().join(", "), self.list(""))
    }

    /// The names of the columns, each with something before it.
    pub(super) fn list(&self, before: &str) -> String {
        self.names.iter().map(|(name, _)| format!("{before}{name}")).collect::<Vec<_>>().join(", ")
    }

    /// The statement that adds the rows to a table, whose columns have these names.
    pub(super) fn insert(&self, into: &str) -> String {
        format!("INSERT INTO {into} ({}) SELECT {} FROM {}", self.list(""), self.list("t."), self.table())
    }

    /// The arrays.
    pub(super) fn params(&self) -> Vec<Param<'_>> {
        let mut params: Vec<Param<'_>> = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            params.push(match column {
                Column::Ints(all) => (all, Type::INT8_ARRAY),
                Column::Blobs(all) => (all, Type::BYTEA_ARRAY),
                Column::Flags(all) => (all, Type::BOOL_ARRAY),
            });
        }
        params
    }
}
