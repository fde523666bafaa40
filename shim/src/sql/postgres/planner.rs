//! What the planner may use: it knows nothing of how large the tables will be. All statements find their rows by an
//! index, in its order.

/// What is off.
const OFF: [&str; 6] =
    ["enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_material", "jit"];

/// Sets it for as long as the connection lasts.
pub(super) fn lasting() -> String {
    set("SET")
}

/// Sets it for a transaction, so that a pooler keeps none of it.
pub(super) fn local() -> String {
    set("SET LOCAL")
}

fn set(how: &str) -> String {
    OFF.map(|name| format!("{how} {name} = off")).join("; ")
}
