//! What the planner may use: it knows nothing of how large the tables will be. All statements find their rows by an
//! index, in its order. A plan that fits all parameters is made once for a statement: the server takes one that is made
//! for an array's length for cheaper, and would plan anew each time.

const SETTINGS: [&str; 7] = [
    "enable_seqscan = off",
    "enable_bitmapscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "enable_material = off",
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
