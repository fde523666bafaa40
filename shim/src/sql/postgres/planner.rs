//! What the server's planner may use. The planner does not know how large the tables will be, so the settings leave it
//! one way: each statement finds its rows by an index, in the order of the index. A plan that fits all parameters is
//! made once for a statement. Otherwise the server would take a plan for one length of an array for cheaper, and would
//! plan each time.

const SETTINGS: [&str; 8] = [
    "enable_seqscan = off",
    "enable_bitmapscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "enable_material = off",
    "enable_partition_pruning = on",
    "jit = off",
    "plan_cache_mode = force_generic_plan",
];

/// Sets it for as long as the connection lasts.
pub(super) fn lasting() -> String {
    set("SET")
}

/// Sets it for a transaction, so that a pooler keeps none of it.
pub(super) fn local() -> String {
    set("SET LOCAL")
}

fn set(how: &str) -> String {
    SETTINGS.map(|setting| format!("{how} {setting}")).join("; ")
}
